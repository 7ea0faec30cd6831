package io.instanttensor;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.instanttensor.device.DeviceId;
import io.instanttensor.header.DType;
import io.instanttensor.header.TensorEntry;
import io.instanttensor.plan.Placement;
import io.instanttensor.read.Backend;
import io.instanttensor.read.FileAccess;
import io.instanttensor.read.IoUringProbe;
import io.instanttensor.read.TestFolders;
import io.instanttensor.slab.Slab;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.RepeatedTest;
import org.junit.jupiter.api.Timeout;

/// Files that are read directly and files that are read through the page cache, in one load to the host: small
/// enough for several of them to share a batch.
@Timeout(60)
class MixedAccessTest {
    private static final int FILES = 8;
    private static final int TENSOR_BYTES = 300_000;

    private Path direct;
    private Path inMemory;

    @BeforeEach
    void createFolders() throws IOException {
        direct = TestFolders.direct();
        inMemory = TestFolders.inMemory();
    }

    @AfterEach
    void deleteFolders() throws IOException {
        TestFolders.delete(direct);
        TestFolders.delete(inMemory);
    }

    @RepeatedTest(20)
    void everyFileBringsItsOwnBytes() throws Exception {
        load(List.of(Backend.AIO, Backend.AIO_BUFFERED));
    }

    @RepeatedTest(20)
    void readersHaveSeveralMethodsAtOnce() throws Exception {
        assumeTrue(IoUringProbe.refusal().isEmpty(), IoUringProbe::refusal);
        load(List.of(Backend.URING, Backend.MMAP));
    }

    private void load(List<Backend> backends) throws Exception {
        List<Path> paths = new ArrayList<>();
        for (int i = 0; i < FILES; i++) {
            paths.add(SafetensorsFiles.builder()
                    .tensor("t" + i, DType.U8, new long[] {TENSOR_BYTES}, i + 1)
                    .write(i % 2 == 0 ? direct : inMemory, "model-" + i + ".safetensors"));
        }
        try (Checkpoint checkpoint = Checkpoint.open(paths, backends, Optional.empty())) {
            assertEquals(FILES / 2, checkpoint.access().stream().filter(FileAccess::direct).count());
            try (Load load = checkpoint.load(LoadOptions.defaults(DeviceId.HOST))) {
                for (Slab next = load.next(); next != null; next = load.next()) {
                    try (Slab slab = next) {
                        requireRight(checkpoint, load, slab);
                    }
                }
            }
        }
    }

    private static void requireRight(Checkpoint checkpoint, Load load, Slab slab) throws IOException {
        MemorySegment bytes = slab.hostView().orElseThrow();
        for (Placement placement : load.placements(slab)) {
            TensorEntry entry = checkpoint.catalogue().tensors().get(placement.wanted().tensor()).entry();
            Path path = checkpoint.catalogue().headers().get(placement.wanted().file()).file();
            MemorySegment file = MemorySegment.ofArray(Files.readAllBytes(path));
            MemorySegment expected = file.asSlice(entry.fileOffset(), entry.bytes());
            assertEquals(-1, expected.mismatch(bytes.asSlice(placement.slabOffset(), entry.bytes())),
                    entry.name() + " differs at");
        }
    }
}
