package io.instanttensor.device;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.junit.jupiter.api.Test;

/// What every device promises: copies, fences and memory here, the rest in what it extends. Its memory
/// must be readable by the host, as the stub's is.
abstract class DeviceContract extends DeviceLifetimeContract {
    @Test
    void writtenBytesAreThereOnceTheFenceHasPassed() {
        slowDownCopies();
        byte[] expected = random(64 * KIB);
        try (DeviceMemory slab = device.allocate(100 * KIB);
                StagingMemory staging = staged(expected);
                CopyStream stream = device.openStream();
                Fence fence = device.newFence()) {
            stream.copy(staging.segment(), slab, 3);
            stream.record(fence);
            fence.await();
            assertTrue(fence.passed());
            assertArrayEquals(expected, bytes(slab, 3, expected.length));
        }
    }

    @Test
    void hostViewIsTheMemoryItself() {
        try (DeviceMemory slab = device.allocate(KIB)) {
            slab.hostView().ifPresent(view -> {
                view.fill((byte) 7);
                assertEquals(slab.address(), view.address());
                assertEquals(KIB, view.byteSize());
                assertEquals(7, bytes(slab, KIB - 1, 1)[0]);
            });
            assertEquals(device.id().kind() == DeviceId.Kind.CPU, slab.hostView().isPresent());
            assertEquals(KIB, slab.bytes());
            assertEquals(0, slab.address() % 64);
        }
    }

    @Test
    void stagingIsWholePagesThatEveryThreadMayFill() throws Exception {
        try (StagingMemory staging = device.allocateStaging(10_000)) {
            assertEquals(0, staging.segment().address() % 4096);
            assertEquals(10_000, staging.segment().byteSize());
            Thread other = Thread.ofPlatform().start(() -> staging.segment().fill((byte) 9));
            other.join();
            assertEquals(9, staging.segment().get(ValueLayout.JAVA_BYTE, 9_999));
        }
    }

    @Test
    void stagingMayBeRewrittenOnceTheFenceHasPassed() {
        slowDownCopies();
        byte[] expected = random(4 * KIB);
        try (DeviceMemory slab = device.allocate(8 * KIB);
                StagingMemory staging = staged(expected);
                CopyStream stream = device.openStream();
                Fence fence = device.newFence()) {
            stream.copy(staging.segment(), slab, 0);
            stream.record(fence);
            fence.await();
            staging.segment().fill((byte) 0);
            stream.copy(staging.segment(), slab, 4 * KIB);
            stream.record(fence);
            fence.await();
            assertArrayEquals(expected, bytes(slab, 0, 4 * KIB));
            assertArrayEquals(new byte[4096], bytes(slab, 4 * KIB, 4 * KIB));
        }
    }

    @Test
    void copiesOfOneStreamRunInOrder() {
        slowDownCopies();
        try (DeviceMemory slab = device.allocate(KIB);
                StagingMemory first = filled(1);
                StagingMemory second = filled(2);
                CopyStream stream = device.openStream();
                Fence fence = device.newFence()) {
            stream.copy(first.segment(), slab, 0);
            stream.copy(second.segment(), slab, 0);
            stream.record(fence);
            fence.await();
            assertEquals(2, bytes(slab, 0, 1)[0]);
        }
    }

    @Test
    void copiesAfterWaitForComeAfterTheOtherStreamsFence() {
        slowDownCopies();
        try (DeviceMemory slab = device.allocate(2 * KIB);
                StagingMemory first = filled(1);
                StagingMemory second = filled(2);
                CopyStream slow = device.openStream();
                CopyStream quick = device.openStream();
                Fence slowDone = device.newFence();
                Fence quickDone = device.newFence()) {
            slow.copy(first.segment(), slab, KIB);
            slow.copy(first.segment(), slab, KIB);
            slow.copy(first.segment(), slab, 0);
            slow.record(slowDone);
            quick.waitFor(slowDone);
            quick.copy(second.segment(), slab, 0);
            quick.record(quickDone);
            quickDone.await();
            assertTrue(slowDone.passed());
            assertEquals(2, bytes(slab, 0, 1)[0]);
            assertEquals(1, bytes(slab, KIB, 1)[0]);
        }
    }

    @Test
    void consumerComesAfterTheCopiesItWaitedFor() {
        slowDownCopies();
        try (DeviceMemory slab = device.allocate(KIB);
                StagingMemory staging = filled(5);
                CopyStream stream = device.openStream();
                Fence copied = device.newFence();
                Fence consumed = device.newFence()) {
            stream.copy(staging.segment(), slab, 0);
            stream.record(copied);
            ConsumerStream consumer = device.consumerStream(0);
            consumer.waitFor(copied);
            consumer.record(consumed);
            consumed.await();
            assertEquals(5, bytes(slab, 0, 1)[0]);
            assertTrue(copied.passed());
        }
    }

    @Test
    void fenceThatWasNeverRecordedHasPassed() {
        try (Fence fence = device.newFence();
                CopyStream stream = device.openStream()) {
            assertTrue(fence.passed());
            fence.await();
            stream.waitFor(fence);
        }
    }

    @Test
    void laterMarkOfAFenceCounts() {
        slowDownCopies();
        try (DeviceMemory slab = device.allocate(2 * KIB);
                StagingMemory staging = filled(3);
                CopyStream stream = device.openStream();
                Fence fence = device.newFence()) {
            stream.copy(staging.segment(), slab, 0);
            stream.record(fence);
            stream.copy(staging.segment(), slab, KIB);
            stream.record(fence);
            fence.await();
            assertEquals(3, bytes(slab, KIB, 1)[0]);
        }
    }

    @Test
    void streamClosedWithCopiesUnderWayStillRunsThem() {
        slowDownCopies();
        try (DeviceMemory slab = device.allocate(KIB);
                StagingMemory staging = filled(6);
                Fence fence = device.newFence()) {
            try (CopyStream stream = device.openStream()) {
                stream.copy(staging.segment(), slab, 0);
                stream.record(fence);
            }
            fence.await();
            assertEquals(6, bytes(slab, 0, 1)[0]);
        }
    }

    @Test
    void emptyCopyIsNone() {
        try (DeviceMemory slab = device.allocate(8);
                StagingMemory staging = filled(1);
                CopyStream stream = device.openStream()) {
            stream.copy(staging.segment().asSlice(0, 0), slab, 8);
        }
    }

    @Test
    void copyOutsideTheTargetIsRefused() {
        try (DeviceMemory slab = device.allocate(KIB);
                StagingMemory staging = filled(1);
                CopyStream stream = device.openStream()) {
            refused(IndexOutOfBoundsException.class, "copy of 1024 bytes to offset 1: the target has 1024 bytes",
                    () -> stream.copy(staging.segment(), slab, 1));
            refused(IndexOutOfBoundsException.class, "copy of 1024 bytes to offset -1: the target has 1024 bytes",
                    () -> stream.copy(staging.segment(), slab, -1));
            refused(IndexOutOfBoundsException.class,
                    "copy of 1024 bytes to offset 9223372036854775807: the target has 1024 bytes",
                    () -> stream.copy(staging.segment(), slab, Long.MAX_VALUE));
        }
    }

    @Test
    void moreThanThereIsIsRefusedWithWhatWasNeededAndFree() {
        long totalBytes = device.memory().totalBytes();
        long neededBytes = totalBytes + 4096;
        String message = assertThrows(OutOfDeviceMemoryException.class, () -> device.allocate(neededBytes))
                .getMessage();
        assertTrue(message.matches("not enough memory on " + device.id() + ": needed " + neededBytes
                + " bytes, \\d+ of " + totalBytes + " bytes were free"), message);
    }

    @Test
    void freeMemoryIsPartOfTheWhole() {
        MemoryInfo memory = device.memory();
        assertTrue(memory.freeBytes() > 0 && memory.freeBytes() <= memory.totalBytes(), memory.toString());
    }

    @Test
    void nothingAndLessIsRefused() {
        refused(IllegalArgumentException.class, "slab of 0 bytes on " + device.id() + ": expected 1 byte or more",
                () -> device.allocate(0));
        refused(IllegalArgumentException.class,
                "staging buffer of -1 bytes on " + device.id() + ": expected 1 byte or more",
                () -> device.allocateStaging(-1));
    }

    @Test
    void manyThreadsWriteOneSlab() throws Exception {
        int threads = 8;
        int pieces = 50;
        long pieceBytes = 5_000;
        long seed = System.nanoTime();
        byte[] expected = new byte[Math.toIntExact(threads * pieces * pieceBytes)];
        new Random(seed).nextBytes(expected);
        try (DeviceMemory slab = device.allocate(expected.length);
                ExecutorService pool = Executors.newFixedThreadPool(threads)) {
            List<Future<?>> writers = new ArrayList<>();
            for (int i = 0; i < threads; i++) {
                long offset = i * pieces * pieceBytes;
                writers.add(pool.submit(() -> write(expected, slab, offset, pieces, pieceBytes)));
            }
            for (Future<?> writer : writers) {
                writer.get();
            }
            assertArrayEquals(expected, bytes(slab, 0, expected.length), "seed " + seed);
        }
    }

    // As a reader does it: two buffers in turn, each reused when its fence has passed.
    private void write(byte[] source, DeviceMemory slab, long offset, int pieces, long pieceBytes) {
        try (Device.Scope _ = device.enter();
                CopyStream stream = device.openStream();
                StagingMemory even = device.allocateStaging(pieceBytes);
                StagingMemory odd = device.allocateStaging(pieceBytes);
                Fence evenFree = device.newFence();
                Fence oddFree = device.newFence()) {
            for (int i = 0; i < pieces; i++) {
                MemorySegment buffer = (i % 2 == 0 ? even : odd).segment();
                Fence free = i % 2 == 0 ? evenFree : oddFree;
                free.await();
                MemorySegment.copy(MemorySegment.ofArray(source), offset + i * pieceBytes, buffer, 0, pieceBytes);
                stream.copy(buffer, slab, offset + i * pieceBytes);
                stream.record(free);
            }
            evenFree.await();
            oddFree.await();
        }
    }
}
