package io.instanttensor;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.instanttensor.device.DeviceId;
import io.instanttensor.header.DType;
import io.instanttensor.header.TensorEntry;
import io.instanttensor.plan.Placement;
import io.instanttensor.slab.Slab;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// How the engine is used from Java, without any Python: a checkpoint's tensors, one after the other.
class TutorialTest {
    @TempDir
    Path model;

    @Test
    void loadsACheckpointFromPlainJava() throws IOException, InterruptedException {
        writeModel();
        List<String> lines = new ArrayList<>();

        // Files, folders and indexes can be opened; all of a checkpoint's headers are read and checked here.
        try (Checkpoint checkpoint = Checkpoint.open(List.of(model));
                // Readers start at once and fill slabs: memory that holds a run of whole tensors.
                Load load = checkpoint.load(LoadOptions.defaults(DeviceId.HOST))) {
            for (Slab next = load.next(); next != null; next = load.next()) {
                // Closing a slab gives its memory to the next one.
                try (Slab slab = next) {
                    MemorySegment bytes = slab.hostView().orElseThrow();
                    for (Placement placement : load.placements(slab)) {
                        TensorEntry entry = checkpoint.catalogue().tensors().get(placement.wanted().tensor()).entry();
                        MemorySegment tensor = bytes.asSlice(placement.slabOffset(), entry.bytes());
                        lines.add(entry.name() + " " + entry.dtype() + entry.shape() + " " + values(entry, tensor));
                    }
                }
            }
            lines.add(load.stats().wantedBytes() + " bytes");
        }

        assertEquals(List.of(
                "embedding.weight F32[2, 3] [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]",
                "norm.weight I64[2] [7, -8]",
                "empty F32[0, 4] []",
                "lm_head.bias F32[1] [-1.25]",
                "44 bytes"), lines);
    }

    private static String values(TensorEntry entry, MemorySegment tensor) {
        return entry.dtype() == DType.F32
                ? Arrays.toString(tensor.toArray(ValueLayout.JAVA_FLOAT))
                : Arrays.toString(tensor.toArray(ValueLayout.JAVA_LONG));
    }

    /// Two files of a folder.
    private void writeModel() {
        ByteBuffer floats = ByteBuffer.allocate(24).order(ByteOrder.LITTLE_ENDIAN);
        for (float value = 0.5f; value < 6; value++) {
            floats.putFloat(value);
        }
        SafetensorsFiles.builder()
                .tensor("embedding.weight", DType.F32, new long[] {2, 3}, floats.array())
                .tensor("norm.weight", DType.I64, new long[] {2},
                        ByteBuffer.allocate(16).order(ByteOrder.LITTLE_ENDIAN).putLong(7).putLong(-8).array())
                .write(model, "model-00001-of-00002.safetensors");
        SafetensorsFiles.builder()
                .tensor("empty", DType.F32, new long[] {0, 4}, new byte[0])
                .tensor("lm_head.bias", DType.F32, new long[] {1},
                        ByteBuffer.allocate(4).order(ByteOrder.LITTLE_ENDIAN).putFloat(-1.25f).array())
                .write(model, "model-00002-of-00002.safetensors");
    }
}
