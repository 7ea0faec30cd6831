package io.instanttensor.stage;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotSame;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.instanttensor.device.HostDevice;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(30)
class StagingPoolTest {
    private static final long MIB = 1 << 20;

    private final HostDevice device = new HostDevice();
    private final StagingPool pool = new StagingPool(device);

    @AfterEach
    void close() {
        pool.close();
        device.close();
    }

    @Test
    void bufferHasTheSizeThatWasAskedForAndIsAlignedForDirectReads() throws Exception {
        StagingBuffer buffer = take(3 * MIB + 1).orElseThrow();
        assertEquals(3 * MIB + 1, buffer.bytes());
        assertEquals(0, buffer.memory().segment().address() % 4096);
        assertTrue(buffer.copied().passed());
        assertEquals(3 * MIB + 1, pool.pinnedBytes());
        pool.release(buffer);
    }

    @Test
    void bufferThatCameBackIsUsedAgainForItsSizeOnly() throws Exception {
        StagingBuffer buffer = take(MIB).orElseThrow();
        pool.release(buffer);
        StagingBuffer other = take(2 * MIB).orElseThrow();
        assertNotSame(buffer, other);
        assertSame(buffer, take(MIB).orElseThrow());
        assertEquals(3 * MIB, pool.pinnedBytes());
        pool.release(buffer);
        pool.release(other);
    }

    @Test
    void limitHoldsForAllBuffersTogether() throws Exception {
        List<StagingBuffer> taken = new ArrayList<>();
        for (Optional<StagingBuffer> more = take(16 * MIB); more.isPresent(); more = take(16 * MIB)) {
            taken.add(more.get());
        }
        assertEquals(StagingPool.LIMIT_BYTES / (16 * MIB), taken.size());
        assertEquals(taken.size() * 16 * MIB, pool.pinnedBytes());
        taken.forEach(pool::release);
    }

    @Test
    void loadWithALimitOfItsOwnHasNoMoreInUseAndLeavesTheOthersIdle() throws Exception {
        List<StagingBuffer> all = List.of(take(MIB).orElseThrow(), take(MIB).orElseThrow(), take(MIB).orElseThrow());
        all.forEach(pool::release);
        StagingBuffer first = pool.acquire(MIB, 2 * MIB, several(), () -> false).orElseThrow();
        StagingBuffer second = pool.acquire(MIB, 2 * MIB, several(), () -> false).orElseThrow();
        AtomicBoolean tried = new AtomicBoolean();
        assertEquals(Optional.empty(), pool.acquire(MIB, 2 * MIB, several(), () -> tried.getAndSet(true)));
        pool.release(second);
        assertSame(second, pool.acquire(MIB, 2 * MIB, several(), () -> false).orElseThrow(),
                "the last that was in use");
        assertEquals(3 * MIB, pool.pinnedBytes());
        pool.release(first);
        pool.release(second);
    }

    @Test
    void idleBuffersOfAnotherSizeMakeRoom() throws Exception {
        List<StagingBuffer> taken = new ArrayList<>();
        for (int i = 0; i < 6; i++) {
            taken.add(take(16 * MIB).orElseThrow());
        }
        assertEquals(Optional.empty(), take(32 * MIB));
        pool.release(taken.removeLast());
        assertEquals(Optional.empty(), take(32 * MIB), "what is idle would not be enough");
        assertEquals(6 * 16 * MIB, pool.pinnedBytes(), "so it stays for whoever wants its size");
        pool.release(taken.removeLast());
        pool.release(take(32 * MIB).orElseThrow());
        assertTrue(pool.pinnedBytes() <= StagingPool.LIMIT_BYTES);
        taken.forEach(pool::release);
    }

    @Test
    void bufferLargerThanTheLimitIsGivenToAPoolThatHoldsNothing() throws Exception {
        StagingBuffer huge = take(StagingPool.LIMIT_BYTES + 1).orElseThrow();
        assertEquals(Optional.empty(), take(1));
        pool.release(huge);
        pool.release(take(1).orElseThrow());
        assertEquals(1, pool.pinnedBytes());
    }

    @Test
    void waiterGetsWhatComesBack() throws Exception {
        StagingBuffer all = take(StagingPool.LIMIT_BYTES).orElseThrow();
        CompletableFuture<StagingBuffer> waiter = new CompletableFuture<>();
        Thread.ofPlatform().daemon().start(() -> {
            try {
                waiter.complete(
                        pool.acquire(StagingPool.LIMIT_BYTES, StagingPool.LIMIT_BYTES, several(), () -> false)
                                .orElseThrow());
            } catch (InterruptedException e) {
                waiter.completeExceptionally(e);
            }
        });
        assertThrows(java.util.concurrent.TimeoutException.class, () -> waiter.get(100, TimeUnit.MILLISECONDS));
        pool.release(all);
        assertSame(all, waiter.get(10, TimeUnit.SECONDS));
        pool.release(all);
    }

    @Test
    void waiterLeavesOnceItsLoadIsOver() throws Exception {
        StagingBuffer all = take(StagingPool.LIMIT_BYTES).orElseThrow();
        AtomicBoolean stopped = new AtomicBoolean();
        Thread.ofPlatform().daemon().start(() -> stopped.set(true));
        assertEquals(Optional.empty(), pool.acquire(MIB, StagingPool.LIMIT_BYTES, several(), stopped::get));
        pool.release(all);
    }

    @Test
    void closedPoolFreesWhatComesBackAndGivesNothing() throws Exception {
        StagingBuffer out = take(MIB).orElseThrow();
        pool.release(take(2 * MIB).orElseThrow());
        pool.close();
        assertEquals(MIB, pool.pinnedBytes());
        assertFalse(out.memory().segment().byteSize() == 0, "what is in use stays whole");
        pool.release(out);
        assertEquals(0, pool.pinnedBytes());
        assertEquals("the staging pool of cpu is closed",
                assertThrows(IllegalStateException.class, () -> take(1)).getMessage());
        pool.close();
    }

    @Test
    void failedAllocationDoesNotCount() {
        assertThrows(RuntimeException.class, () -> take(0));
        assertEquals(0, pool.pinnedBytes());
    }

    @Test
    void bufferBehindItsCopiesIsHandedOutOnceTheyAreDone() throws InterruptedException {
        StagingBuffer all = take(StagingPool.LIMIT_BYTES).orElseThrow();
        // Of the host's copies all are done.
        pool.releaseBehindCopies(all);
        assertSame(all, take(StagingPool.LIMIT_BYTES).orElseThrow());
        pool.releaseBehindCopies(all);
        assertEquals(StagingPool.LIMIT_BYTES, pool.pinnedBytes());
    }

    /// Whoever reads ahead keeps buffers for as long as its caller likes, and the caller may wait for another load.
    @Test
    void loadWithoutABufferGetsOneBeyondTheLimitAndNobodyASecond() throws Exception {
        AtomicInteger ahead = new AtomicInteger();
        List<StagingBuffer> kept = new ArrayList<>();
        for (Optional<StagingBuffer> next = pool.acquireAhead(2 * MIB, StagingPool.LIMIT_BYTES, ahead);
                next.isPresent();
                next = pool.acquireAhead(2 * MIB, StagingPool.LIMIT_BYTES, ahead)) {
            kept.add(next.get());
        }
        assertEquals(kept.size(), ahead.get());
        AtomicInteger other = new AtomicInteger();
        StagingBuffer one = pool.acquire(8 * MIB, StagingPool.LIMIT_BYTES / 2, other, () -> false).orElseThrow();
        assertEquals(1, other.get());
        assertEquals(kept.size() * 2 * MIB + 8 * MIB, pool.pinnedBytes());
        assertTrue(pool.pinnedBytes() > StagingPool.LIMIT_BYTES);
        AtomicBoolean tried = new AtomicBoolean();
        assertEquals(Optional.empty(), pool.acquire(
                8 * MIB, StagingPool.LIMIT_BYTES, new AtomicInteger(), () -> tried.getAndSet(true)));
        pool.release(one);
        assertEquals(kept.size() * 2 * MIB, pool.pinnedBytes(), "what went beyond is not kept");
        kept.forEach(pool::release);
    }

    /// Of a load that has some.
    private static AtomicInteger several() {
        return new AtomicInteger(2);
    }

    /// A buffer if there is one without waiting for another thread.
    private Optional<StagingBuffer> take(long bytes) throws InterruptedException {
        AtomicBoolean tried = new AtomicBoolean();
        return pool.acquire(bytes, StagingPool.LIMIT_BYTES, several(), () -> tried.getAndSet(true));
    }
}
