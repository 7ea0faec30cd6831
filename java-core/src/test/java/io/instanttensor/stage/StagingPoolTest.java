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
    void bufferHasTheSizeThatWasAskedForAndIsAlignedForDirectReads() {
        StagingBuffer buffer = pool.tryAcquire(3 * MIB + 1).orElseThrow();
        assertEquals(3 * MIB + 1, buffer.bytes());
        assertEquals(0, buffer.memory().segment().address() % 4096);
        assertTrue(buffer.copied().passed());
        assertEquals(3 * MIB + 1, pool.pinnedBytes());
        pool.release(buffer);
    }

    @Test
    void bufferThatCameBackIsUsedAgainForItsSizeOnly() {
        StagingBuffer buffer = pool.tryAcquire(MIB).orElseThrow();
        pool.release(buffer);
        StagingBuffer other = pool.tryAcquire(2 * MIB).orElseThrow();
        assertNotSame(buffer, other);
        assertSame(buffer, pool.tryAcquire(MIB).orElseThrow());
        assertEquals(3 * MIB, pool.pinnedBytes());
        pool.release(buffer);
        pool.release(other);
    }

    @Test
    void limitHoldsForAllBuffersTogether() {
        List<StagingBuffer> taken = new ArrayList<>();
        for (Optional<StagingBuffer> more = pool.tryAcquire(16 * MIB); more.isPresent();
                more = pool.tryAcquire(16 * MIB)) {
            taken.add(more.get());
        }
        assertEquals(StagingPool.LIMIT_BYTES / (16 * MIB), taken.size());
        assertEquals(taken.size() * 16 * MIB, pool.pinnedBytes());
        taken.forEach(pool::release);
    }

    @Test
    void idleBuffersOfAnotherSizeMakeRoom() {
        List<StagingBuffer> taken = new ArrayList<>();
        for (int i = 0; i < 7; i++) {
            taken.add(pool.tryAcquire(16 * MIB).orElseThrow());
        }
        assertEquals(Optional.empty(), pool.tryAcquire(32 * MIB));
        pool.release(taken.removeLast());
        assertEquals(Optional.empty(), pool.tryAcquire(32 * MIB), "freed, and still too little");
        assertEquals(6 * 16 * MIB, pool.pinnedBytes());
        pool.release(taken.removeLast());
        pool.release(pool.tryAcquire(32 * MIB).orElseThrow());
        assertTrue(pool.pinnedBytes() <= StagingPool.LIMIT_BYTES);
        taken.forEach(pool::release);
    }

    @Test
    void bufferLargerThanTheLimitIsGivenToAPoolThatHoldsNothing() {
        StagingBuffer huge = pool.tryAcquire(StagingPool.LIMIT_BYTES + 1).orElseThrow();
        assertEquals(Optional.empty(), pool.tryAcquire(1));
        pool.release(huge);
        pool.release(pool.tryAcquire(1).orElseThrow());
        assertEquals(1, pool.pinnedBytes());
    }

    @Test
    void waiterGetsWhatComesBack() throws Exception {
        StagingBuffer all = pool.tryAcquire(StagingPool.LIMIT_BYTES).orElseThrow();
        CompletableFuture<StagingBuffer> waiter = new CompletableFuture<>();
        Thread.ofPlatform().daemon().start(() -> {
            try {
                waiter.complete(pool.acquire(StagingPool.LIMIT_BYTES, () -> false).orElseThrow());
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
        StagingBuffer all = pool.tryAcquire(StagingPool.LIMIT_BYTES).orElseThrow();
        AtomicBoolean stopped = new AtomicBoolean();
        Thread.ofPlatform().daemon().start(() -> stopped.set(true));
        assertEquals(Optional.empty(), pool.acquire(MIB, stopped::get));
        pool.release(all);
    }

    @Test
    void closedPoolFreesWhatComesBackAndGivesNothing() {
        StagingBuffer out = pool.tryAcquire(MIB).orElseThrow();
        pool.release(pool.tryAcquire(2 * MIB).orElseThrow());
        pool.close();
        assertEquals(MIB, pool.pinnedBytes());
        assertFalse(out.memory().segment().byteSize() == 0, "what is in use stays whole");
        pool.release(out);
        assertEquals(0, pool.pinnedBytes());
        assertEquals("the staging pool of cpu is closed",
                assertThrows(IllegalStateException.class, () -> pool.tryAcquire(1)).getMessage());
        pool.close();
    }

    @Test
    void failedAllocationDoesNotCount() {
        assertThrows(RuntimeException.class, () -> pool.tryAcquire(0));
        assertEquals(0, pool.pinnedBytes());
    }

    @Test
    void pipelineWithoutReadersIsRefused() {
        assertEquals("0 readers with 2 buffers each", assertThrows(IllegalArgumentException.class,
                () -> new ReadPipeline.Settings(0, 2, 4096)).getMessage());
        assertEquals("2 readers with 0 buffers each", assertThrows(IllegalArgumentException.class,
                () -> new ReadPipeline.Settings(2, 0, 4096)).getMessage());
    }
}
