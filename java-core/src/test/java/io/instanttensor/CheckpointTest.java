package io.instanttensor;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.instanttensor.device.DeviceId;
import io.instanttensor.file.FileException;
import io.instanttensor.header.DType;
import io.instanttensor.plan.PlanLimits;
import io.instanttensor.plan.Wanted;
import io.instanttensor.read.Backend;
import io.instanttensor.read.FileAccess;
import io.instanttensor.read.NoBackendException;
import io.instanttensor.slab.Slab;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.ref.WeakReference;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.OptionalLong;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/// The face of the engine, on the host.
@Timeout(60)
class CheckpointTest {
    private static final LoadOptions HOST = LoadOptions.defaults(DeviceId.HOST);

    @TempDir
    Path folder;

    @Test
    void someTensorsAreLoadedAndOthersLeftOut() throws Exception {
        try (Checkpoint checkpoint = open(threeTensors("a"));
                Load load = checkpoint.load(new int[] {0, 2}, HOST);
                Slab slab = load.next()) {
            assertEquals(List.of(0, 2), load.placements(slab).stream().map(p -> p.wanted().tensor()).toList());
            assertArrayEquals(bytes(10, 100), tensor(load, slab, 0, 100));
            assertArrayEquals(bytes(30, 50), tensor(load, slab, 1, 50));
            assertNull(load.next());
            assertEquals(150, load.stats().wantedBytes());
        }
    }

    @Test
    void rangesGoIntoTheCallersMemory() throws Exception {
        try (Checkpoint checkpoint = open(threeTensors("a"));
                Arena arena = Arena.ofShared()) {
            rangesGoInto(checkpoint, arena);
        }
    }

    @ParameterizedTest
    @EnumSource(names = "CUFILE", mode = EnumSource.Mode.EXCLUDE)
    void rangesGoIntoTheCallersMemoryWhicheverWayTheFileIsRead(Backend backend) throws Exception {
        try (Checkpoint checkpoint = Checkpoint.open(
                        List.of(threeTensors("a")), List.of(backend, Backend.MMAP), Optional.empty());
                Arena arena = Arena.ofShared()) {
            rangesGoInto(checkpoint, arena);
        }
    }

    private static void rangesGoInto(Checkpoint checkpoint, Arena arena) throws Exception {
        MemorySegment first = arena.allocate(12);
        MemorySegment second = arena.allocate(50);
        List<Wanted> wanted = List.of(
                Wanted.part(checkpoint.catalogue(), 0, 4, 10), Wanted.whole(checkpoint.catalogue(), 2));
        try (Load load = checkpoint.loadInto(
                wanted, new long[] {first.address() + 1, second.address()}, 0, HOST)) {
            for (Slab slab = load.next(); slab != null; slab = load.next()) {
                slab.close();
            }
            assertEquals(60, load.stats().wantedBytes());
            assertEquals(0, load.stats().capBytes());
            assertEquals(0, load.stats().peakBytes());
        }
        assertArrayEquals(bytes(14, 10), first.asSlice(1, 10).toArray(ValueLayout.JAVA_BYTE));
        assertEquals(0, first.get(ValueLayout.JAVA_BYTE, 0) | first.get(ValueLayout.JAVA_BYTE, 11));
        assertArrayEquals(bytes(30, 50), second.toArray(ValueLayout.JAVA_BYTE));
    }

    @Test
    void rangesWithoutAnAddressAreRefused() throws Exception {
        try (Checkpoint checkpoint = open(threeTensors("a"))) {
            List<Wanted> wanted = List.of(Wanted.whole(checkpoint.catalogue(), 0));
            refused(IllegalArgumentException.class, "1 ranges with 0 addresses",
                    () -> checkpoint.loadInto(wanted, new long[0], 0, HOST));
        }
    }

    @Test
    void nameInTwoFilesIsADuplicateAndBothAreLoaded() throws Exception {
        Path first = threeTensors("a");
        Path second = threeTensors("b");
        try (Checkpoint checkpoint = Checkpoint.open(List.of(second, first));
                Load load = checkpoint.load(HOST);
                Slab slab = load.next()) {
            assertEquals(List.of(first, second), checkpoint.catalogue().duplicates().get("x"));
            assertEquals(6, load.placements(slab).size());
            assertArrayEquals(bytes(30, 50), tensor(load, slab, 5, 50));
        }
    }

    @Test
    void indexSaysWhoseTensorCounts() throws Exception {
        threeTensors("a");
        threeTensors("b");
        Path index = Files.writeString(folder.resolve("model.safetensors.index.json"), """
                {"metadata":{},"weight_map":{"x":"a.safetensors","y":"b.safetensors","z":"b.safetensors"}}""");
        try (Checkpoint checkpoint = open(index)) {
            assertEquals(List.of("0 x", "1 y", "1 z"), checkpoint.catalogue().tensors().stream()
                    .map(located -> located.file() + " " + located.entry().name()).toList());
            assertTrue(checkpoint.catalogue().duplicates().isEmpty());
        }
    }

    @Test
    void ranksTogetherFillTheSlab() throws Exception {
        Path path = threeTensors("a");
        byte[] whole = new byte[190];
        for (int rank = 0; rank < 2; rank++) {
            LoadOptions options = new LoadOptions(DeviceId.HOST, OptionalLong.empty(), 4096, OptionalInt.empty(),
                    OptionalInt.empty(), 0.5, new PlanLimits.Share(rank, 2), 2, 2);
            try (Checkpoint checkpoint = open(path);
                    Load load = checkpoint.load(options);
                    Slab slab = load.next()) {
                assertEquals(1024, slab.allocationBytes());
                // All of it lies in the first part of 512 bytes; the second rank has nothing to read.
                assertEquals(rank == 0 ? 190 : 0, load.stats().readBytes());
                if (rank == 0) {
                    whole = slab.hostView().orElseThrow().asSlice(0, 190).toArray(ValueLayout.JAVA_BYTE);
                }
            }
        }
        assertArrayEquals(bytes(10, 100), Arrays.copyOf(whole, 100));
    }

    @Test
    void filesStayOpenUntilTheLastReaderIsDone() throws Exception {
        Path path = threeTensors("a");
        Checkpoint checkpoint = open(path);
        assertEquals(1, descriptors(path));
        Load load = checkpoint.load(HOST);
        checkpoint.close();
        checkpoint.close();
        try (Slab slab = load.next()) {
            assertArrayEquals(bytes(10, 100), tensor(load, slab, 0, 100));
        }
        assertTrue(load.drained(10_000));
        assertEquals(0, descriptors(path));
        load.close();
    }

    /// Of the last of 200 ranks the first tensor has no byte: its slab is full before anything is read.
    @ParameterizedTest
    @ValueSource(ints = {1, 200})
    void slabThatIsKeptDoesNotKeepItsLoadsPlan(int ranks) throws Exception {
        List<WeakReference<?>> others = new ArrayList<>();
        try (Slab kept = firstOfALoadOfSeveral(new PlanLimits.Share(ranks - 1, ranks), others)) {
            assertEquals(0, kept.index());
            assertEquals(5, others.size());
            for (int turn = 0; turn < 1_000 && others.stream().anyMatch(other -> other.get() != null); turn++) {
                System.gc();
                Thread.sleep(5);
            }
            assertEquals(List.of(), others.stream().map(WeakReference::get).filter(Objects::nonNull).toList());
        }
    }

    /// A method of its own: its variables would keep what they hold.
    private Slab firstOfALoadOfSeveral(PlanLimits.Share share, List<WeakReference<?>> others)
            throws Exception {
        // A slab is at most a quarter of the buffer.
        LoadOptions options = new LoadOptions(DeviceId.HOST, OptionalLong.of(160), PlanLimits.DEFAULT_CHUNK_BYTES,
                OptionalInt.empty(), OptionalInt.empty(), 0.5, share, 1, 1);
        try (Checkpoint checkpoint = open(threeTensors("a"));
                Load load = checkpoint.load(options)) {
            assertEquals(share.rank() > 0, load.plan().slabs().getFirst().ownBytes() == 0);
            others.add(new WeakReference<>(checkpoint.catalogue()));
            others.add(new WeakReference<>(load.plan()));
            load.plan().slabs().forEach(layout -> others.add(new WeakReference<>(layout)));
            Slab first = load.next();
            for (Slab slab = load.next(); slab != null; slab = load.next()) {
                slab.close();
            }
            return first;
        }
    }

    @Test
    void closedCheckpointTouchesNoDescriptorAnyMore() throws Exception {
        Checkpoint checkpoint = open(threeTensors("a"));
        List<Wanted> wanted = List.of(Wanted.whole(checkpoint.catalogue(), 0));
        checkpoint.close();
        refused(IllegalStateException.class, "the checkpoint is closed", checkpoint::access);
        refused(IllegalStateException.class, "the checkpoint is closed", () -> checkpoint.load(HOST));
        refused(IllegalStateException.class, "the checkpoint is closed",
                () -> checkpoint.loadInto(wanted, new long[1], 0, HOST));
    }

    @Test
    void failedOpeningLeavesNoFileOpen() throws Exception {
        Path good = threeTensors("a");
        Path bad = Files.writeString(folder.resolve("b.safetensors"), "no");
        assertThrows(IOException.class, () -> Checkpoint.open(List.of(good, bad)));
        assertEquals(0, descriptors(good) + descriptors(bad));
    }

    @Test
    void fileThatChangedSizeIsRefusedBeforeTheLoad() throws Exception {
        Path path = threeTensors("a");
        long bytes = Files.size(path);
        try (Checkpoint checkpoint = open(path)) {
            try (RandomAccessFile file = new RandomAccessFile(path.toFile(), "rw")) {
                file.setLength(bytes + 1);
            }
            refused(FileException.class, path + ": expected to read 100 bytes at " + (bytes - 190)
                    + ", read none: the file has " + (bytes + 1) + " bytes, and had " + bytes + " when it was opened",
                    () -> checkpoint.load(HOST));
        }
        assertEquals(0, descriptors(path), "a load that was refused holds no file");
    }

    @Test
    void loadedLoadTellsWhatItDid() throws Exception {
        LoadOptions options = new LoadOptions(DeviceId.HOST, OptionalLong.of(400), 4096, OptionalInt.of(2),
                OptionalInt.empty(), 0.5, PlanLimits.Share.ALL, 1, 1);
        try (Checkpoint checkpoint = open(threeTensors("a"));
                Load load = checkpoint.load(options)) {
            for (Slab slab = load.next(); slab != null; slab = load.next()) {
                slab.close();
            }
            LoadStats stats = load.stats();
            assertEquals(190, stats.wantedBytes());
            assertEquals(190, stats.readBytes());
            assertEquals(190, load.stagedBytes());
            assertEquals(load.plan().slabs().size(), stats.slabs());
            assertEquals(400, stats.capBytes());
            assertTrue(stats.peakBytes() > 0 && stats.peakBytes() <= 400, stats.toString());
            assertTrue(stats.callerWaitSeconds() <= stats.seconds(), stats.toString());
            assertTrue(stats.readSeconds() > 0 && stats.readSeconds() <= 2 * stats.seconds(), stats.toString());
            assertTrue(load.exhausted());
            assertNull(load.poll(0, 0));
            assertEquals(stats.seconds(), load.stats().seconds(), "the clock stops with the last slab");
        }
    }

    @Test
    void closedLoadSaysSo() throws Exception {
        try (Checkpoint checkpoint = open(threeTensors("a"))) {
            Load load = checkpoint.load(HOST);
            load.close();
            load.close();
            refused(IllegalStateException.class, "the load has been closed", () -> load.poll(0, 10));
            assertTrue(load.drained(10_000));
            assertFalse(load.exhausted());
        }
    }

    @Test
    void accessIsDecidedOnceForEachFile() throws Exception {
        try (Checkpoint checkpoint = Checkpoint.open(List.of(threeTensors("a"), threeTensors("b")),
                List.of(Backend.CUFILE, Backend.MMAP), Optional.of(HOST))) {
            List<FileAccess> access = checkpoint.access();
            assertEquals(2, access.size());
            assertEquals(Backend.MMAP, access.getFirst().backend());
            assertEquals(access, checkpoint.access());
        }
    }

    @Test
    void backendsThatCannotServeAreRefusedAtOpening() throws Exception {
        Path path = threeTensors("a");
        refused(NoBackendException.class,
                path + ": none of the backends asked for can read it: CUFILE: it reads to GPUs, and this load goes"
                        + " to the host",
                () -> Checkpoint.open(List.of(path), List.of(Backend.CUFILE), Optional.of(HOST)));
    }

    @Test
    void numbersOutOfRangeAreRefused() {
        refused(IllegalArgumentException.class, "readers: expected 1 or more, found 0",
                () -> options(OptionalInt.of(0), OptionalInt.empty()));
        refused(IllegalArgumentException.class, "reads in flight: expected 1 or more, found -3",
                () -> options(OptionalInt.of(1), OptionalInt.of(-3)));
    }

    @Test
    void streamOfTheHostIsTheDefaultOne() throws Exception {
        try (Checkpoint checkpoint = open(threeTensors("a"));
                Load load = checkpoint.load(HOST)) {
            refused(IllegalArgumentException.class,
                    "consumer stream 0x5 on cpu: the host has only stream 0", () -> load.poll(5, 10));
            try (Slab slab = load.next()) {
                load.alsoOn(slab, 0);
            }
        }
    }

    @Test
    void slabThatWasGivenBackNeedsNoOtherStream() throws Exception {
        try (Checkpoint checkpoint = open(threeTensors("a"));
                Load load = checkpoint.load(HOST)) {
            Slab slab = load.next();
            slab.close();
            load.alsoOn(slab, 0);
            refused(IllegalStateException.class, "slab 0 is RELEASED: expected HANDED_OUT", slab::address);
        }
    }

    private Checkpoint open(Path path) throws IOException {
        return Checkpoint.open(List.of(path));
    }

    private static LoadOptions options(OptionalInt readers, OptionalInt readsInFlight) {
        return new LoadOptions(DeviceId.HOST, OptionalLong.empty(), PlanLimits.DEFAULT_CHUNK_BYTES, readers,
                readsInFlight, 0.5, PlanLimits.Share.ALL, 1, 1);
    }

    private Path threeTensors(String name) {
        return SafetensorsFiles.builder()
                .tensor("x", DType.U8, new long[] {100}, bytes(10, 100))
                .tensor("y", DType.U8, new long[] {40}, bytes(20, 40))
                .tensor("z", DType.U8, new long[] {50}, bytes(30, 50))
                .write(folder, name + ".safetensors");
    }

    private static byte[] bytes(int first, int count) {
        byte[] bytes = new byte[count];
        for (int i = 0; i < count; i++) {
            bytes[i] = Integer.valueOf(first + i).byteValue();
        }
        return bytes;
    }

    private static byte[] tensor(Load load, Slab slab, int placement, long bytes) {
        return slab.hostView().orElseThrow()
                .asSlice(load.placements(slab).get(placement).slabOffset(), bytes)
                .toArray(ValueLayout.JAVA_BYTE);
    }

    private static long descriptors(Path path) throws IOException {
        List<Path> open = new ArrayList<>();
        try (Stream<Path> links = Files.list(Path.of("/proc/self/fd"))) {
            for (Path link : links.toList()) {
                try {
                    open.add(Files.readSymbolicLink(link));
                } catch (IOException gone) {
                    // It was the listing's own.
                }
            }
        }
        return open.stream().filter(path.toAbsolutePath()::equals).count();
    }

    private static void refused(Class<? extends Exception> type, String message, Executable use) {
        assertEquals(message, assertThrows(type, use).getMessage());
    }
}
