package io.instanttensor.stage;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// A storage is played: it answers a whole generation of reads at once, after as long as they take there.
class ReadDepthTest {
    private static final int MIB = 1 << 20;

    /// Lets generations of reads pass until nothing changes any more.
    ///
    /// @param latencyMillis of each read
    /// @param mibPerSecond of all of them together
    private static int settle(ReadDepth depth, double latencyMillis, double mibPerSecond, long waitedNanos)
            throws InterruptedException {
        for (int generation = 0; generation < 24; generation++) {
            int reads = depth.allowed();
            for (int i = 0; i < reads; i++) {
                assertTrue(depth.begin(() -> false));
            }
            TimeUnit.NANOSECONDS.sleep((long) (1e6 * Math.max(latencyMillis, 1000.0 * reads / mibPerSecond)));
            for (int i = 0; i < reads; i++) {
                depth.end(MIB, waitedNanos);
            }
        }
        return depth.allowed();
    }

    @ParameterizedTest(name = "{0} ms a read, {1} MiB/s in all: {2}")
    @CsvSource({"30, 1000000, 64", "30, 900, 32", "5, 400, 4", "5, 1000000, 64"})
    void followsTheThroughput(double latencyMillis, double mibPerSecond, int expected) throws InterruptedException {
        ReadDepth depth = new ReadDepth(4, 64);
        assertEquals(expected, settle(depth, latencyMillis, mibPerSecond, 0));
        assertEquals(expected, settle(depth, latencyMillis, mibPerSecond, 0), "and stays there");
    }

    @Test
    void staysWhereReadersWaitForSomethingElse() throws InterruptedException {
        assertEquals(4, settle(new ReadDepth(4, 64), 2, 1e9, TimeUnit.SECONDS.toNanos(1)));
    }

    @Test
    void fixedNumberIsKept() throws InterruptedException {
        ReadDepth depth = new ReadDepth(5, 5);
        assertTrue(depth.begin(() -> true), "there are as many readers, and the last to come finds nothing to claim");
        assertEquals(0, depth.end(MIB, 0));
        assertEquals(5, depth.allowed());
    }

    @Test
    void oneMoreThanAllowedWaitsForAnEnd() throws Exception {
        ReadDepth depth = new ReadDepth(2, 4);
        assertTrue(depth.begin(() -> false));
        assertTrue(depth.begin(() -> false));
        CompletableFuture<Boolean> third = beginElsewhere(depth, new AtomicBoolean());
        Thread.sleep(100);
        assertFalse(third.isDone());
        depth.end(MIB, 0);
        assertTrue(third.get(10, TimeUnit.SECONDS));
    }

    @Test
    void whoeverWaitsLeavesOnceTheLoadIsStopped() throws Exception {
        ReadDepth depth = new ReadDepth(1, 2);
        assertTrue(depth.begin(() -> false));
        AtomicBoolean stopped = new AtomicBoolean();
        CompletableFuture<Boolean> second = beginElsewhere(depth, stopped);
        stopped.set(true);
        assertFalse(second.get(10, TimeUnit.SECONDS));
    }

    private static CompletableFuture<Boolean> beginElsewhere(ReadDepth depth, AtomicBoolean stopped) {
        CompletableFuture<Boolean> begun = new CompletableFuture<>();
        Thread.ofPlatform().daemon().start(() -> {
            try {
                begun.complete(depth.begin(stopped::get));
            } catch (InterruptedException e) {
                begun.completeExceptionally(e);
            }
        });
        return begun;
    }
}
