package io.instanttensor;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.instanttensor.device.DeviceId;
import io.instanttensor.file.CheckpointFile;
import io.instanttensor.header.DType;
import io.instanttensor.plan.LoadPlan;
import io.instanttensor.plan.LoadPlanner;
import io.instanttensor.plan.PlanLimits;
import io.instanttensor.plan.Ranges;
import io.instanttensor.plan.SlabBudget;
import io.instanttensor.plan.Wanted;
import io.instanttensor.read.Backend;
import io.instanttensor.read.ChunkReader;
import io.instanttensor.read.FileAccess;
import io.instanttensor.slab.Slab;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.OptionalLong;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// What is said of a load before it runs has to be what it then does.
class LoadOutlookTest {
    private static final long KIB = 1024;
    private static final long CHUNK = 64 * KIB;
    /// A chunk with its ends widened for direct I/O.
    private static final long BUFFER = CHUNK + 128 * KIB;

    @TempDir
    Path folder;

    @Test
    void loadThenDoesAsItSaid() throws Exception {
        LoadOptions options = options(DeviceId.HOST, OptionalLong.of(256 * KIB));
        try (Checkpoint checkpoint = Checkpoint.open(List.of(fourTensors()), List.of(Backend.MMAP), Optional.empty())) {
            // Slabs are a quarter of the cap: four tensors of 64 KiB, one to a slab.
            LoadOutlook outlook = checkpoint.outlook(options);
            assertEquals(new LoadOutlook(3, CHUNK, outlook.reads(), 4, 64 * KIB, 256 * KIB, 0), outlook);
            try (Load load = checkpoint.load(options)) {
                int slabs = 0;
                for (Slab next = load.next(); next != null; next = load.next()) {
                    next.close();
                    slabs++;
                }
                assertEquals(outlook.slabs(), slabs);
                assertEquals(outlook.capBytes(), load.stats().capBytes());
                assertEquals(outlook.reads(), load.plan().count(Integer.MAX_VALUE).chunks());
            }
        }
    }

    @Test
    void bufferedBytesForTheHostNeedNoStagingAndDirectOnesDo() throws IOException {
        assertEquals(0, staging(DeviceId.HOST, buffered()));
        assertEquals(3 * BUFFER, staging(DeviceId.HOST, direct()));
    }

    @Test
    void bytesForAGpuAreStagedHoweverTheyAreRead() throws IOException {
        assertEquals(4 * BUFFER, staging(new DeviceId(DeviceId.Kind.CUDA, 0), buffered()));
        assertEquals(4 * BUFFER, staging(new DeviceId(DeviceId.Kind.CUDA, 0), direct()));
    }

    @Test
    void checkpointWithoutAByteNeedsNothing() throws Exception {
        Path file = SafetensorsFiles.builder()
                .tensor("nothing", DType.F32, new long[] {0}, 1)
                .write(folder, "empty.safetensors");
        try (Checkpoint checkpoint = Checkpoint.open(List.of(file))) {
            LoadOutlook outlook = checkpoint.outlook(options(DeviceId.HOST, OptionalLong.of(4)));
            assertEquals(new LoadOutlook(0, CHUNK, 0, 1, 1, 4, 0), outlook);
        }
    }

    /// Of a plan with four reads by three readers.
    private long staging(DeviceId device, FileAccess access) throws IOException {
        try (CheckpointFile file = CheckpointFile.open(fourTensors());
                Checkpoint checkpoint = Checkpoint.open(List.of(file.path()))) {
            List<Wanted> wanted = List.of(Wanted.part(checkpoint.catalogue(), 0, 0, KIB),
                    Wanted.part(checkpoint.catalogue(), 1, 0, KIB), Wanted.part(checkpoint.catalogue(), 2, 0, KIB),
                    Wanted.part(checkpoint.catalogue(), 3, 0, KIB));
            LoadPlan plan = LoadPlanner.plan(Ranges.of(wanted), new PlanLimits(1, CHUNK, CHUNK, PlanLimits.Share.ALL));
            assertEquals(new LoadPlan.Counts(4, 4), plan.count(100));
            return LoadOutlook.of(plan, new SlabBudget(4, 1, 2), options(device, OptionalLong.empty()),
                    List.of(new ChunkReader(file, access))).stagingBytes();
        }
    }

    private static FileAccess buffered() {
        return new FileAccess(FileAccess.Mode.BUFFERED, null, "for a test", List.of(), 1, true);
    }

    private static FileAccess direct() {
        return new FileAccess(FileAccess.Mode.DIRECT, null, "for a test", List.of(), 4096, false);
    }

    private static LoadOptions options(DeviceId device, OptionalLong bufferBytes) {
        return new LoadOptions(
                device, bufferBytes, CHUNK, OptionalInt.of(3), OptionalInt.empty(), 0.5, PlanLimits.Share.ALL, 1, 1);
    }

    private Path fourTensors() {
        SafetensorsFiles.Builder builder = SafetensorsFiles.builder();
        for (String name : List.of("a", "b", "c", "d")) {
            builder = builder.tensor(name, DType.U8, new long[] {64 * KIB}, 1);
        }
        return builder.write(folder, "four.safetensors");
    }
}
