package io.instanttensor.plan;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;

/// Plans of given input, and properties of plans of random input.
class LoadPlannerTest {
    private static final long CHUNK = 4096;
    private static final long UNIT = 64 << 10;
    private static final int PLANS = 400;

    @Test
    void everyWantedByteIsReadOnceAndLandsWhereItsPlacementSays() {
        overRandomInput((wanted, limits, seed) -> {
            for (int rank = 0; rank < limits.share().world(); rank++) {
                PlanLimits of = withRank(limits, rank);
                for (SlabLayout slab : LoadPlanner.plan(Ranges.of(wanted), of).slabs()) {
                    requireExactCover(slab, of.share(), seed);
                }
            }
        });
    }

    @Test
    void sharesOfAllRanksTogetherFillEverySlabOnce() {
        overRandomInput((wanted, limits, seed) -> {
            List<LoadPlan> plans = new ArrayList<>();
            for (int rank = 0; rank < limits.share().world(); rank++) {
                plans.add(LoadPlanner.plan(Ranges.of(wanted), withRank(limits, rank)));
            }
            long read = 0;
            for (LoadPlan plan : plans) {
                assertEquals(placements(plans.getFirst()), placements(plan), seed);
                for (SlabLayout slab : plan.slabs()) {
                    read += slab.chunks().mapToLong(Chunk::wantedBytes).sum();
                }
            }
            assertEquals(wanted.stream().mapToLong(Wanted::bytes).sum(), read, seed);
        });
    }

    @Test
    void chunksStayWithinMultiplesOfTheirSizeAndSkipNoGapShorterThan64KiB() {
        overRandomInput((wanted, limits, seed) -> {
            LoadPlan plan = LoadPlanner.plan(Ranges.of(wanted), limits);
            for (SlabLayout slab : plan.slabs()) {
                Chunk before = null;
                for (Chunk chunk : slab.chunks().toList()) {
                    long first = chunk.fileOffset() / limits.chunkBytes();
                    assertEquals(first, (chunk.fileOffset() + chunk.bytes() - 1) / limits.chunkBytes(), seed);
                    requireGapsBelowLimit(chunk, seed);
                    requireNotJoinable(before, chunk, limits, seed);
                    before = chunk;
                }
            }
        });
    }

    @Test
    void orderIsKeptPlacementsAreAlignedAndSlabsKeepTheirSize() {
        overRandomInput((wanted, limits, seed) -> {
            LoadPlan plan = LoadPlanner.plan(Ranges.of(wanted), limits);
            assertEquals(wanted, placements(plan).stream().map(Placement::wanted).toList(), seed);
            for (SlabLayout slab : plan.slabs()) {
                long end = 0;
                for (Placement placement : slab.placements()) {
                    assertEquals(0, placement.slabOffset() % placement.wanted().alignmentBytes(), seed);
                    assertTrue(placement.slabOffset() >= end, seed);
                    end = placement.slabOffset() + placement.wanted().bytes();
                }
                boolean single = slab.placements().size() == 1;
                assertEquals(single ? end : (end + 7) / 8 * 8, slab.bytes(), seed);
                assertTrue(single || end <= limits.slabBytes(), seed);
                assertEquals(plan.slabs().indexOf(slab), slab.index(), seed);
            }
        });
    }

    @Test
    void partsOfAllRanksAreOfOneLengthAndStartAtMultiplesOf512() {
        overRandomInput((wanted, limits, seed) -> {
            PlanLimits.Share share = limits.share();
            for (SlabLayout slab : LoadPlanner.plan(Ranges.of(wanted), limits).slabs()) {
                long part = share.partBytes(slab.bytes());
                assertTrue(share.world() == 1 || part % 512 == 0, seed);
                assertEquals(part * share.world(), slab.allocationBytes(), seed);
                assertTrue(slab.allocationBytes() >= slab.bytes(), seed);
            }
        });
    }

    @Test
    void gapOf64KiBIsNotReadAndAShorterOneIs() {
        PlanLimits limits = limits(1 << 20, 1 << 20);
        Wanted first = wanted(0, 100);
        LoadPlan apart = LoadPlanner.plan(Ranges.of(List.of(first, wanted(100 + (64 << 10), 50))), limits);
        assertEquals(List.of(
                new Chunk(0, 0, 0, 100, 0, List.of(new Segment(0, 0, 100))),
                new Chunk(0, 0, 100 + (64 << 10), 50, 100 + (64 << 10), List.of(new Segment(0, 100, 50)))),
                apart.slabs().getFirst().chunks().toList());
        LoadPlan together = LoadPlanner.plan(Ranges.of(List.of(first, wanted(99 + (64 << 10), 50))), limits);
        assertEquals(List.of(new Chunk(0, 0, 0, 149 + (64 << 10), 0,
                List.of(new Segment(0, 0, 100), new Segment(99 + (64 << 10), 100, 50)))),
                together.slabs().getFirst().chunks().toList());
        assertEquals(150, together.wantedBytes());
    }

    @Test
    void neighboursInTheFileAndInTheSlabAreOneSegment() {
        LoadPlan plan = LoadPlanner.plan(Ranges.of(List.of(wanted(16, 8), wanted(24, 8))), limits(1 << 20, CHUNK));
        assertEquals(List.of(new Chunk(0, 0, 16, 16, 16, List.of(new Segment(0, 0, 16)))),
                plan.slabs().getFirst().chunks().toList());
    }

    @Test
    void emptyTensorsTakeAPlaceAndNoRead() {
        LoadPlan plan = LoadPlanner.plan(Ranges.of(List.of(wanted(8, 0), wanted(8, 0))), limits(64, CHUNK));
        assertEquals(1, plan.slabs().size());
        assertEquals(0, plan.slabs().getFirst().bytes());
        assertEquals(0, plan.slabs().getFirst().allocationBytes());
        assertEquals(2, plan.slabs().getFirst().placements().size());
        assertEquals(List.of(), plan.slabs().getFirst().chunks().toList());
        assertEquals(new LoadPlan(List.of(), 0, 4096 + (128 << 10)),
                LoadPlanner.plan(Ranges.of(List.of()), limits(64, CHUNK)));
    }

    @Test
    void tensorLargerThanASlabGetsOneOfExactlyItsSize() {
        LoadPlan plan = LoadPlanner.plan(
                Ranges.of(List.of(wanted(0, 10), wanted(10, 101), wanted(111, 10))), limits(100, CHUNK));
        assertEquals(List.of(10L, 101L, 10L), plan.slabs().stream().map(SlabLayout::bytes).toList());
    }

    @Test
    void planOfATensorThatNoMemoryHoldsIsMadeAtOnceAndCutAsItIsRead() {
        LoadPlan plan = LoadPlanner.plan(Ranges.of(List.of(new Wanted(0, 0, 0, 1L << 62, 1))), limits(1 << 20, CHUNK));
        assertEquals(1L << 62, plan.slabs().getFirst().ownBytes());
        assertEquals(10, plan.count(10).chunks());
        assertEquals(new Chunk(0, 0, 0, CHUNK, 0, List.of(new Segment(0, 0, CHUNK))),
                plan.slabs().getFirst().batches().next().chunks().getFirst());
    }

    @Test
    void bytesThatNoNumberHoldsAreRefused() {
        Wanted half = new Wanted(0, 0, 0, 1L << 62, 1);
        assertEquals("long overflow", assertThrows(ArithmeticException.class,
                () -> LoadPlanner.plan(Ranges.of(List.of(half, half)), limits(1 << 20, CHUNK))).getMessage());
    }

    @Test
    void copiesOfABatchBringEveryChunksBytesToWhereItsSegmentsSay() {
        overRandomInput((wanted, limits, seed) -> {
            for (SlabLayout slab : LoadPlanner.plan(Ranges.of(wanted), limits).slabs()) {
                long own = 0;
                for (Batch batch : batches(slab)) {
                    own += batch.wantedBytes();
                    assertEquals(slab.index(), batch.slab(), seed);
                    long[] fromSegments = new long[Math.toIntExact(slab.allocationBytes())];
                    long[] fromCopies = fromSegments.clone();
                    for (Chunk chunk : batch.chunks()) {
                        for (Segment segment : chunk.segments()) {
                            note(fromSegments, chunk.bufferOffset() + segment.chunkOffset(), segment.slabOffset(),
                                    segment.bytes());
                        }
                    }
                    batch.copies().forEach(
                            copy -> note(fromCopies, copy.bufferOffset(), copy.slabOffset(), copy.bytes()));
                    assertTrue(Arrays.equals(fromSegments, fromCopies), seed);
                }
                assertEquals(slab.ownBytes(), own, seed);
            }
        });
    }

    @Test
    void directReadsOfABatchStayInTheBufferAndOffEachOther() {
        overRandomInput((wanted, limits, seed) -> {
            LoadPlan plan = LoadPlanner.plan(Ranges.of(wanted), limits);
            assertEquals(limits.batchBytes() + (128 << 10), plan.bufferBytes(), seed);
            for (SlabLayout slab : plan.slabs()) {
                for (Batch batch : batches(slab)) {
                    long taken = 0;
                    for (Chunk chunk : batch.chunks()) {
                        assertEquals(chunk.fileOffset() % UNIT, chunk.bufferOffset() % UNIT, seed);
                        long first = chunk.bufferOffset() / UNIT * UNIT;
                        long end = PlanLimits.roundUp(chunk.bufferOffset() + chunk.bytes(), UNIT);
                        assertTrue(first >= taken, seed);
                        assertTrue(end <= plan.bufferBytes(), seed);
                        taken = end;
                    }
                }
            }
        });
    }

    @Test
    void chunksThatFillAStretchOfTheFileAreOneCopy() {
        // Cut at 1 MiB, 2 MiB ...: the little before the first cut, four whole chunks, and the next batch.
        LoadPlan plan = LoadPlanner.plan(Ranges.of(List.of(wanted(1_000_000, 5 << 20))),
                new PlanLimits(64 << 20, 1 << 20, 4 << 20, PlanLimits.Share.ALL));
        List<Batch> batches = batches(plan.slabs().getFirst());
        assertEquals(List.of(5, 1), batches.stream().map(batch -> batch.chunks().size()).toList());
        long phase = 1_000_000 % UNIT;
        long firstBytes = (5 << 20) - 1_000_000;
        assertEquals(List.of(new Batch.Copy(phase, 0, firstBytes)), batches.getFirst().copies());
        assertEquals(List.of(new Batch.Copy(0, firstBytes, (5 << 20) - firstBytes)), batches.getLast().copies());
    }

    private static List<Batch> batches(SlabLayout slab) {
        List<Batch> batches = new ArrayList<>();
        slab.batches().forEachRemaining(batches::add);
        return batches;
    }

    private static void note(long[] slab, long bufferOffset, long slabOffset, long bytes) {
        for (long i = 0; i < bytes; i++) {
            slab[Math.toIntExact(slabOffset + i)] = 1 + bufferOffset + i;
        }
    }

    private interface Property {
        void holds(List<Wanted> wanted, PlanLimits limits, String seed);
    }

    /// Prints the seed with what failed.
    private static void overRandomInput(Property property) {
        long base = Long.getLong("instanttensor.test.seed", 20_251);
        for (int i = 0; i < PLANS; i++) {
            long seed = base + i;
            Random random = new Random(seed);
            int world = random.nextInt(3) == 0 ? 1 + random.nextInt(5) : 1;
            long chunkBytes = PlanLimits.MIN_CHUNK_BYTES << random.nextInt(7);
            PlanLimits limits = new PlanLimits(1 + random.nextInt(400_000), chunkBytes,
                    chunkBytes + random.nextInt(500_000),
                    new PlanLimits.Share(random.nextInt(world), world));
            property.holds(randomWanted(random), limits, "-Dinstanttensor.test.seed=" + seed);
        }
    }

    private static List<Wanted> randomWanted(Random random) {
        List<Wanted> wanted = new ArrayList<>();
        int files = 1 + random.nextInt(3);
        for (int file = 0; file < files; file++) {
            long offset = random.nextInt(10_000);
            for (int tensor = 0; tensor < random.nextInt(20); tensor++) {
                long bytes = switch (random.nextInt(4)) {
                    case 0 -> 0;
                    case 1 -> random.nextInt(300_000);
                    default -> random.nextInt(5_000);
                };
                wanted.add(new Wanted(wanted.size(), file, offset, bytes, 1 << random.nextInt(4)));
                offset += bytes + switch (random.nextInt(4)) {
                    case 0 -> random.nextInt(200_000);
                    case 1 -> (64 << 10) - 1 + random.nextInt(2);
                    default -> 0;
                };
            }
        }
        return wanted;
    }

    private static void requireExactCover(SlabLayout slab, PlanLimits.Share share, String seed) {
        // For every byte of the slab where in which file it comes from, as the placements and as the chunks say.
        long[] expected = new long[Math.toIntExact(slab.allocationBytes())];
        long[] found = new long[expected.length];
        Arrays.fill(expected, -1);
        Arrays.fill(found, -1);
        long part = share.partBytes(slab.bytes());
        for (Placement placement : slab.placements()) {
            Wanted wanted = placement.wanted();
            for (long i = 0; i < wanted.bytes(); i++) {
                long at = placement.slabOffset() + i;
                if (at >= part * share.rank() && at < part * (share.rank() + 1)) {
                    expected[Math.toIntExact(at)] = source(wanted.file(), wanted.fileOffset() + i);
                }
            }
        }
        for (Chunk chunk : slab.chunks().toList()) {
            assertEquals(slab.index(), chunk.slab(), seed);
            for (Segment segment : chunk.segments()) {
                for (long i = 0; i < segment.bytes(); i++) {
                    int at = Math.toIntExact(segment.slabOffset() + i);
                    assertEquals(-1, found[at], seed);
                    found[at] = source(chunk.file(), chunk.fileOffset() + segment.chunkOffset() + i);
                }
            }
        }
        assertTrue(Arrays.equals(expected, found), seed);
    }

    private static long source(int file, long offset) {
        return file * (1L << 40) + offset;
    }

    private static void requireGapsBelowLimit(Chunk chunk, String seed) {
        long end = 0;
        for (Segment segment : chunk.segments()) {
            assertTrue(segment.chunkOffset() - end < PlanLimits.GAP_BYTES, seed);
            end = segment.chunkOffset() + segment.bytes();
        }
        assertEquals(0, chunk.segments().getFirst().chunkOffset(), seed);
        assertEquals(end, chunk.bytes(), seed);
    }

    private static void requireNotJoinable(Chunk before, Chunk chunk, PlanLimits limits, String seed) {
        if (before == null || before.file() != chunk.file()) {
            return;
        }
        long gap = chunk.fileOffset() - before.fileOffset() - before.bytes();
        boolean sameMultiple =
                before.fileOffset() / limits.chunkBytes() == chunk.fileOffset() / limits.chunkBytes();
        assertTrue(gap >= PlanLimits.GAP_BYTES || !sameMultiple, seed);
    }

    private static List<Placement> placements(LoadPlan plan) {
        return plan.slabs().stream().flatMap(slab -> slab.placements().stream()).toList();
    }

    private static PlanLimits withRank(PlanLimits limits, int rank) {
        return new PlanLimits(
                limits.slabBytes(), limits.chunkBytes(), limits.batchBytes(),
                new PlanLimits.Share(rank, limits.share().world()));
    }

    private static PlanLimits limits(long slabBytes, long chunkBytes) {
        return new PlanLimits(slabBytes, chunkBytes, chunkBytes, PlanLimits.Share.ALL);
    }

    private static Wanted wanted(long fileOffset, long bytes) {
        return new Wanted(0, 0, fileOffset, bytes, 1);
    }
}
