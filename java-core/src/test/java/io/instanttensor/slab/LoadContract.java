package io.instanttensor.slab;

import static io.instanttensor.slab.LoadRig.KIB;
import static io.instanttensor.slab.LoadRig.MIB;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.instanttensor.device.Device;
import io.instanttensor.device.DeviceMemory;
import io.instanttensor.file.FileException;
import io.instanttensor.read.Backend;
import io.instanttensor.read.TestFolders;
import io.instanttensor.stage.StagingPool;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/// What every load promises, whatever device it loads to: whole loads through readers, staging and slabs.
@Timeout(60)
abstract class LoadContract {
    Device device;
    StagingPool staging;
    Reclaimer reclaimer;
    Path folder;
    Path path;

    abstract Device openDevice();

    /// Makes copies slow, where they do not happen at once.
    abstract void slowDownCopies(long microseconds);

    /// What reads files through the page cache.
    Backend buffered() {
        return Backend.AIO_BUFFERED;
    }

    /// What reads them past it.
    Backend direct() {
        return Backend.AIO;
    }

    @BeforeEach
    void open() throws IOException {
        folder = TestFolders.inMemory();
        path = folder.resolve("model");
        device = openDevice();
        staging = new StagingPool(device);
        reclaimer = new Reclaimer(device);
        reclaimer.start();
    }

    @AfterEach
    void close() throws IOException {
        try (Device.Scope _ = device.enter()) {
            staging.close();
        }
        device.close();
        TestFolders.delete(folder);
    }

    LoadRig.Setup slabsOf(long slabBytes) {
        return LoadRig.Setup.of(device, staging, reclaimer, slabBytes).withBackend(buffered());
    }

    byte[] content(long bytes) {
        return TestFolders.fill(path, Math.toIntExact(bytes));
    }

    @Test
    void bytesAreRightThoughCopiesAreSlowAndSlabsAreUsedAgainAtOnce() throws Exception {
        byte[] content = content(48 * 50 * KIB);
        slowDownCopies(1_000);
        LoadRig.Setup setup = slabsOf(128 * KIB);
        try (LoadRig load = setup.load(path, many(48, 50 * KIB))) {
            int taken = 0;
            for (Slab slab = load.take(); slab != null; slab = load.take()) {
                try (Slab _ = slab) {
                    load.requireRight(slab, content);
                }
                taken++;
            }
            assertEquals(24, taken);
            assertTrue(load.pool.peakOwnBytes() <= setup.capBytes(), "peak " + load.pool.peakOwnBytes());
            assertEquals(content.length, load.counters.stagedBytes.get());
            assertEquals(content.length, load.counters.readBytes.get());
        }
    }

    @Test
    void callerThatHoldsTheSlabBeforeDoesNotStallALoadOfThreeSlabsBudget() throws Exception {
        byte[] content = content(20 * 64 * KIB);
        LoadRig.Setup setup = slabsOf(64 * KIB).withCap(3 * 64 * KIB);
        try (LoadRig load = setup.load(path, many(20, 64 * KIB))) {
            Slab held = load.take();
            for (Slab next = load.take(); next != null; next = load.take()) {
                load.requireRight(held, content);
                held.close();
                held = next;
            }
            load.requireRight(held, content);
            held.close();
            assertTrue(load.pool.peakOwnBytes() <= setup.capBytes(), "peak " + load.pool.peakOwnBytes());
        }
    }

    @Test
    void callerWhoKeepsEverySlabGetsThemAll() throws Exception {
        byte[] content = content(40 * 64 * KIB);
        LoadRig.Setup setup = slabsOf(64 * KIB).withCap(64 * KIB);
        List<Slab> kept = new ArrayList<>();
        try (LoadRig load = setup.load(path, many(40, 64 * KIB))) {
            for (Slab slab = load.take(); slab != null; slab = load.take()) {
                kept.add(slab);
            }
            assertEquals(40, kept.size());
            kept.forEach(slab -> load.requireRight(slab, content));
            assertTrue(load.pool.peakOwnBytes() <= setup.capBytes(), "peak " + load.pool.peakOwnBytes());
        }
        for (Slab slab : kept) {
            assertTrue(slab.address() != 0, "closing a load leaves its slabs to their holders");
            slab.close();
        }
        assertTrue(reclaimer.awaitIdle(LoadRig.HANG_MILLIS));
    }

    @Test
    void slabsMayBeGivenBackOnAnyThread() throws Exception {
        byte[] content = content(60 * 64 * KIB);
        try (LoadRig load = slabsOf(64 * KIB).load(path, many(60, 64 * KIB));
                ExecutorService others = Executors.newFixedThreadPool(3)) {
            for (Slab slab = load.take(); slab != null; slab = load.take()) {
                load.requireRight(slab, content);
                others.execute(slab::close);
            }
        }
    }

    @Test
    void tensorLargerThanTheBudgetGetsWhatItNeeds() throws Exception {
        byte[] content = content(MIB + 20 * 64 * KIB);
        long[] tensors = many(21, 64 * KIB);
        tensors[10] = MIB;
        try (LoadRig load = slabsOf(64 * KIB).load(path, tensors)) {
            for (Slab slab = load.take(); slab != null; slab = load.take()) {
                try (Slab _ = slab) {
                    load.requireRight(slab, content);
                }
            }
            assertEquals(MIB, load.pool.peakOwnBytes());
        }
    }

    @Test
    void readerThatWaitsForALaterSlabDoesNotKeepOthersFromAnEarlierOne() throws Exception {
        // Small tensors before and behind one of twelve times the budget: it stalled one time in a few.
        byte[] content = content(12 * MIB + 12 * 256 * KIB);
        long[] tensors = many(13, 256 * KIB);
        tensors[6] = 12 * MIB;
        LoadRig.Setup setup = slabsOf(256 * KIB).withReaders(8).withChunks(256 * KIB);
        for (int round = 0; round < 12; round++) {
            try (LoadRig load = setup.load(path, tensors)) {
                for (Slab slab = load.take(); slab != null; slab = load.take()) {
                    load.requireRight(slab, content);
                    slab.close();
                }
            }
        }
    }

    @Test
    void memoryOfTheCallersIsFilledAndStaysTheirs() throws Exception {
        byte[] content = content(3 * 50 * KIB);
        slowDownCopies(500);
        List<DeviceMemory> owned = new ArrayList<>();
        try (Device.Scope _ = device.enter()) {
            for (int i = 0; i < 3; i++) {
                owned.add(device.allocate(50 * KIB));
            }
            List<DeviceMemory> borrowed = owned.stream()
                    .map(memory -> device.borrow(memory.address(), memory.bytes()))
                    .toList();
            try (LoadRig load = slabsOf(1).loadInto(borrowed, path)) {
                for (Slab slab = load.take(); slab != null; slab = load.take()) {
                    assertEquals(owned.get(slab.index()).address(), slab.address());
                    load.requireRight(slab, content);
                    slab.close();
                }
            }
            owned.forEach(DeviceMemory::close);
        }
    }

    @Test
    void emptyTensorsArriveWithoutAByte() throws Exception {
        content(100);
        try (LoadRig load = slabsOf(64).load(path, 0, 0)) {
            Slab slab = load.take();
            assertEquals(0, slab.address());
            assertEquals(0, slab.hostView().orElseThrow().byteSize());
            assertEquals(0, load.pool.peakOwnBytes());
            slab.close();
            assertNull(load.take());
        }
        try (LoadRig nothing = slabsOf(64).load(path)) {
            assertNull(nothing.take());
        }
    }

    @Test
    void slabAtItsAddressEndsWithItsClosing() throws Exception {
        content(100);
        try (LoadRig load = slabsOf(64).load(path, 64)) {
            Slab slab = load.take();
            slab.close();
            slab.close();
            assertEquals("slab 0 is RELEASED: expected HANDED_OUT",
                    assertThrows(IllegalStateException.class, slab::address).getMessage());
            assertEquals("slab 0 is RELEASED: expected HANDED_OUT",
                    assertThrows(IllegalStateException.class, slab::hostView).getMessage());
        }
    }

    @Test
    void closingWhileReadersReadEndsThem() throws Exception {
        byte[] content = content(60 * 64 * KIB);
        slowDownCopies(500);
        for (int taken = 0; taken < 6; taken++) {
            Slab last = null;
            LoadRig load = slabsOf(64 * KIB).load(path, many(60, 64 * KIB));
            try (load) {
                for (int i = 0; i < taken; i++) {
                    last = load.take();
                    if (i < taken - 1) {
                        last.close();
                    }
                }
            }
            if (last != null) {
                load.requireRight(last, content);
                last.close();
            }
            assertTrue(reclaimer.awaitIdle(LoadRig.HANG_MILLIS));
        }
    }

    @Test
    void takingAfterTheEndSaysSo() throws Exception {
        content(10 * 64 * KIB);
        LoadRig load = slabsOf(64 * KIB).load(path, many(10, 64 * KIB));
        load.close();
        load.close();
        assertEquals("the load has been closed",
                assertThrows(IllegalStateException.class, load::take).getMessage());
    }

    @Test
    void takerThatWaitsIsWokenByTheEnd() throws Exception {
        content(64 * KIB);
        slowDownCopies(1_000);
        LoadRig load = slabsOf(64 * KIB).withReaders(1).load(path, many(1, 64 * KIB));
        Thread closer = Thread.ofPlatform().start(() -> {
            try {
                load.close();
            } catch (InterruptedException e) {
                throw new AssertionError(e);
            }
        });
        try {
            Slab slab = load.poll(LoadRig.HANG_MILLIS);
            assertNotNull(slab, "it came before the end");
            slab.close();
        } catch (IllegalStateException e) {
            assertTrue(List.of("the load has been closed", "slab 0 is RELEASED: expected FILLED")
                    .contains(e.getMessage()), e.getMessage());
        }
        closer.join();
        assertTrue(reclaimer.awaitIdle(LoadRig.HANG_MILLIS));
    }

    @Test
    void failureOfAReaderReachesTheCallerWithItsCause() throws Exception {
        content(10 * 64 * KIB);
        LoadRig.Setup setup = slabsOf(64 * KIB).withReaders(1);
        try (RandomAccessFile file = new RandomAccessFile(path.toFile(), "rw")) {
            file.setLength(5 * 64 * KIB + 1_000);
        }
        try (LoadRig load = setup.load(path, many(10, 64 * KIB))) {
            LoadFailedException failed = assertThrows(LoadFailedException.class, () -> {
                for (Slab slab = load.take(); slab != null; slab = load.take()) {
                    slab.close();
                }
            });
            assertEquals(path + ": read 1,000 of 16,384 bytes at 327,680: the file ends there (it had 328,680 bytes "
                    + "when it was opened)", failed.getMessage());
            assertEquals(FileException.class, failed.getCause().getClass());
            assertEquals(failed.getCause(), assertThrows(LoadFailedException.class, load::take).getCause());
        }
    }

    @Test
    void directReadsGoThroughStagingOnEveryDevice() throws Exception {
        Path direct = TestFolders.direct();
        try {
            byte[] content = TestFolders.fill(direct.resolve("model"), Math.toIntExact(20 * 50 * KIB + 77));
            slowDownCopies(200);
            long[] tensors = many(21, 50 * KIB);
            tensors[20] = 77;
            LoadRig.Setup setup = slabsOf(128 * KIB).withBackend(direct());
            try (LoadRig load = setup.load(direct.resolve("model"), tensors)) {
                for (Slab slab = load.take(); slab != null; slab = load.take()) {
                    load.requireRight(slab, content);
                    slab.close();
                }
                assertTrue(staging.pinnedBytes() > 0);
            }
        } finally {
            TestFolders.delete(direct);
        }
    }

    static long[] many(int count, long bytes) {
        long[] tensors = new long[count];
        Arrays.fill(tensors, bytes);
        return tensors;
    }
}
