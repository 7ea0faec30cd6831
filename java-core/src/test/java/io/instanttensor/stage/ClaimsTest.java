package io.instanttensor.stage;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.instanttensor.plan.Chunk;
import io.instanttensor.plan.LoadPlan;
import io.instanttensor.plan.LoadPlanner;
import io.instanttensor.plan.PlanLimits;
import io.instanttensor.plan.Ranges;
import io.instanttensor.plan.Wanted;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import java.util.function.Predicate;
import org.junit.jupiter.api.Test;

/// In which order chunks are handed out.
class ClaimsTest {
    private static final int CHUNK = 4096;
    private static final int BATCH = 2 * CHUNK;
    private static final int SLAB = 8 * CHUNK;
    private static final int SLABS = 4;
    private static final int CHUNKS = SLABS * SLAB / CHUNK;
    private static final int READERS = 8;
    private static final Claims.Room ANY = slab -> true;

    private final LoadPlan plan = plan();

    /// Of one file, whose first half the page cache holds in most tests.
    private static LoadPlan plan() {
        List<Wanted> wanted = new ArrayList<>();
        for (int i = 0; i < SLABS; i++) {
            wanted.add(new Wanted(i, 0, (long) i * SLAB, SLAB, 8));
        }
        return LoadPlanner.plan(Ranges.of(wanted), new PlanLimits(SLAB, CHUNK, BATCH, PlanLimits.Share.ALL));
    }

    private Claims claims(Predicate<Chunk> cached) {
        return new Claims(plan.slabs(), chunk -> true, Optional.of(cached));
    }

    private static boolean inFirstHalf(Chunk chunk) {
        return chunk.fileOffset() < SLABS * SLAB / 2;
    }

    private static long number(Claims.Claim claim) {
        return claim.chunk().fileOffset() / CHUNK;
    }

    private static List<Long> all(Claims claims, int readers, Claims.Room room) throws InterruptedException {
        List<Long> found = new ArrayList<>();
        for (Claims.Claim next = claims.next(readers, room); next != null; next = claims.next(readers, room)) {
            found.add(number(next));
            claims.over(next);
            claims.done(next.batch());
        }
        assertTrue(claims.underWay().isEmpty());
        return found;
    }

    private static List<Long> numbers(long from, long to) {
        List<Long> numbers = new ArrayList<>();
        for (long i = from; i < to; i++) {
            numbers.add(i);
        }
        return numbers;
    }

    private static List<Long> joined(List<Long> first, List<Long> second) {
        List<Long> both = new ArrayList<>(first);
        both.addAll(second);
        return both;
    }

    @Test
    void withoutACacheThatMattersItIsThePlansOrder() throws InterruptedException {
        assertEquals(numbers(0, CHUNKS), all(new Claims(plan.slabs(), chunk -> true, Optional.empty()), READERS, ANY));
        assertEquals(numbers(0, CHUNKS), all(claims(chunk -> true), READERS, ANY));
        assertEquals(numbers(0, CHUNKS), all(claims(chunk -> false), READERS, ANY));
    }

    @Test
    void whatIsOnStorageGoesBeforeWhatIsCached() throws InterruptedException {
        assertEquals(joined(numbers(CHUNKS / 2, CHUNKS), numbers(0, CHUNKS / 2)),
                all(claims(ClaimsTest::inFirstHalf), READERS, ANY));
    }

    @Test
    void batchOfWhichOnlyAPartIsCachedIsReadFromStorage() throws InterruptedException {
        assertEquals(joined(numbers(BATCH / CHUNK, CHUNKS), numbers(0, BATCH / CHUNK)),
                all(claims(chunk -> chunk.fileOffset() < BATCH + CHUNK), READERS, ANY));
    }

    @Test
    void nothingGoesFirstThatThereIsNoRoomFor() throws InterruptedException {
        assertEquals(numbers(0, CHUNKS), all(claims(ClaimsTest::inFirstHalf), READERS, slab -> slab < SLABS / 2));
        assertEquals(numbers(0, CHUNKS), all(claims(ClaimsTest::inFirstHalf), READERS, slab -> false));
    }

    @Test
    void someReadersAreLeftToWhatIsCached() throws InterruptedException {
        Claims claims = claims(ClaimsTest::inFirstHalf);
        List<Claims.Claim> underWay = new ArrayList<>();
        for (int i = 0; i < READERS; i++) {
            underWay.add(claims.next(READERS, ANY));
        }
        assertEquals(joined(numbers(CHUNKS / 2, CHUNKS / 2 + READERS - 2), numbers(0, 2)),
                underWay.stream().map(ClaimsTest::number).toList());
        assertFalse(underWay.getFirst().batch().cached());
        assertTrue(underWay.getFirst().batch().direct());
        assertTrue(underWay.getLast().batch().cached());
        assertFalse(underWay.getLast().batch().direct());
        // One that comes back is followed by another one from storage.
        claims.over(underWay.getFirst());
        assertEquals(CHUNKS / 2 + READERS - 2, number(claims.next(READERS, ANY)));
        assertEquals(2, number(claims.next(READERS, ANY)));
    }

    @Test
    void everyChunkIsHandedOutOnceWhateverIsCached() throws InterruptedException {
        long seed = System.nanoTime();
        Random random = new Random(seed);
        for (int round = 0; round < 500; round++) {
            boolean[] cached = new boolean[CHUNKS];
            for (int i = 0; i < CHUNKS; i++) {
                cached[i] = random.nextBoolean();
            }
            Claims claims = claims(chunk -> cached[(int) (chunk.fileOffset() / CHUNK)]);
            List<Claims.Claim> underWay = new ArrayList<>();
            List<Long> found = new ArrayList<>();
            while (found.size() < CHUNKS) {
                int readers = random.nextInt(1, 2 * READERS);
                Claims.Claim next = claims.next(readers, slab -> random.nextInt(3) > 0);
                found.add(number(next));
                underWay.add(next);
                if (random.nextBoolean()) {
                    claims.over(underWay.remove(random.nextInt(underWay.size())));
                }
            }
            assertNull(claims.next(READERS, ANY), "seed " + seed);
            assertEquals(numbers(0, CHUNKS), found.stream().sorted().toList(), "seed " + seed);
        }
    }
}
