package io.instanttensor.stage;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.IntToDoubleFunction;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

/// A storage is played: it answers a whole generation of reads at once, after as long as they take there.
class ReadDepthTest {
    private static final int MIB = 1 << 20;

    private long nanos;

    /// Lets generations of reads pass.
    ///
    /// @param latencyMillis of each read
    /// @param mibPerSecond of all of them together
    /// @param busyGeneration in which the machine is busy with something else, and takes ten times as long
    private int settle(
            ReadDepth depth, double latencyMillis, double mibPerSecond, long waitedNanos, int busyGeneration)
            throws InterruptedException {
        return settle(depth, latencyMillis, mibPerSecond, waitedNanos,
                generation -> generation == busyGeneration ? 10 : 1);
    }

    /// @param slowdown of a generation, by its number
    private int settle(
            ReadDepth depth, double latencyMillis, double mibPerSecond, long waitedNanos, IntToDoubleFunction slowdown)
            throws InterruptedException {
        for (int generation = 0; generation < 100; generation++) {
            int reads = depth.allowed();
            for (int i = 0; i < reads; i++) {
                assertTrue(depth.begin(() -> false));
            }
            double millis = Math.max(latencyMillis, 1000.0 * reads / mibPerSecond);
            nanos += (long) (1e6 * millis * slowdown.applyAsDouble(generation));
            for (int i = 0; i < reads; i++) {
                depth.end(MIB, waitedNanos);
            }
        }
        return depth.allowed();
    }

    /// How many of 200 loads end at a number, where each generation takes a tenth more or less.
    private int loadsThatEndAt(int expected, double latencyMillis, double mibPerSecond) throws InterruptedException {
        int loads = 0;
        for (int seed = 0; seed < 200; seed++) {
            Random random = new Random(seed);
            ReadDepth depth = new ReadDepth(8, 49, () -> nanos);
            int end = settle(depth, latencyMillis, mibPerSecond, 0, generation -> 1 + 0.1 * random.nextGaussian());
            loads += end == expected ? 1 : 0;
        }
        return loads;
    }

    @ParameterizedTest(name = "{0} ms a read, {1} MiB/s in all: {2}")
    @CsvSource({"30, 1000000, 64", "30, 900, 32", "5, 400, 4", "5, 1000000, 64"})
    void followsTheThroughput(double latencyMillis, double mibPerSecond, int expected) throws InterruptedException {
        ReadDepth depth = new ReadDepth(4, 64, () -> nanos);
        assertEquals(expected, settle(depth, latencyMillis, mibPerSecond, 0, -1));
        assertEquals(expected, settle(depth, latencyMillis, mibPerSecond, 0, -1), "and stays there");
    }

    @ParameterizedTest(name = "generation {0}")
    @MethodSource("generations")
    void oneBusyMomentDoesNotDecide(int busy) throws InterruptedException {
        assertEquals(64, settle(new ReadDepth(4, 64, () -> nanos), 30, 1e9, 0, busy), "nothing is shared");
        assertEquals(8, settle(new ReadDepth(8, 49, () -> nanos), 0, 200, 0, busy), "all share a wire");
        assertEquals(16, settle(new ReadDepth(8, 49, () -> nanos), 10, 1500, 0, busy), "8 cannot fill the wire");
        assertEquals(8, settle(new ReadDepth(8, 49, () -> nanos), 0, 200, 0, n -> n <= busy ? 3 : 1), "cold code");
    }

    private static IntStream generations() {
        return IntStream.range(0, 24);
    }

    @Test
    void jitterOfATenthDoesNotDecideEither() throws InterruptedException {
        assertTrue(loadsThatEndAt(8, 0, 200) >= 196, "all share a wire");
        assertTrue(loadsThatEndAt(49, 10, 1e9) >= 196, "nothing is shared");
        assertTrue(loadsThatEndAt(16, 10, 1500) >= 190, "8 cannot fill the wire");
    }

    /// Of 100 MB/s each and 1.5 GB/s in all: 8 reads bring little more than half of it.
    @Test
    void mostOfWhatAWireCarriesIsReached() throws InterruptedException {
        assertEquals(16, settle(new ReadDepth(8, 49, () -> nanos), 10.5, 1430, 0, -1));
    }

    /// The numbers that are tried, each once, and the one below the last once more.
    @Test
    void theMostIsReachedAtOnceWhereNothingIsShared() throws InterruptedException {
        ReadDepth depth = new ReadDepth(8, 49, () -> nanos);
        List<Integer> numbers = new ArrayList<>();
        settle(depth, 10, 1e9, 0, generation -> {
            numbers.add(depth.allowed());
            return 1;
        });
        assertEquals(List.of(8, 8, 16, 16, 32, 32, 49, 49, 32, 32, 49), numbers.subList(0, 11));
        assertEquals(Set.of(49), Set.copyOf(numbers.subList(11, 100)));
    }

    /// Memory that is touched for the first time takes 2.9 GB/s, whatever the storage brings.
    @Test
    void looksAgainOnceMemoryIsUsedAgain() throws InterruptedException {
        ReadDepth depth = new ReadDepth(8, 49, () -> nanos);
        assertEquals(16, settle(depth, 5, 2900, 0, -1));
        settle(depth, 5, 1e9, 0, -1);
        assertEquals(49, settle(depth, 5, 1e9, 0, -1));
        assertEquals(49, settle(depth, 5, 1, 0, -1), "and no third time");
    }

    @Test
    void looksAgainInVainWhereMemoryWasNotTheReason() throws InterruptedException {
        ReadDepth depth = new ReadDepth(8, 49, () -> nanos);
        for (int turn = 0; turn < 5; turn++) {
            assertEquals(16, settle(depth, 5, 2900, 0, -1));
        }
    }

    @Test
    void doesNotLookAgainWhereTheStorageIsSlowerThanAnyMemory() throws InterruptedException {
        ReadDepth depth = new ReadDepth(8, 49, () -> nanos);
        for (int turn = 0; turn < 4; turn++) {
            List<Integer> numbers = new ArrayList<>();
            settle(depth, 0, 200, 0, generation -> {
                numbers.add(depth.allowed());
                return 1;
            });
            if (turn > 0) {
                assertEquals(Set.of(8), Set.copyOf(numbers));
            }
        }
    }

    @Test
    void staysWhereReadersWaitForSomethingElse() throws InterruptedException {
        ReadDepth depth = new ReadDepth(4, 64, () -> nanos);
        assertEquals(4, settle(depth, 2, 1e9, TimeUnit.SECONDS.toNanos(1), -1));
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
