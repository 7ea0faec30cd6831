package io.instanttensor.plan;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.instanttensor.header.Catalogue;
import io.instanttensor.header.DType;
import io.instanttensor.header.Shape;
import io.instanttensor.header.TensorEntry;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// What the records of a plan do not let through.
class PlanRefusalsTest {
    private static final Catalogue CATALOGUE = new Catalogue(List.of(), List.of(new Catalogue.Located(
            3, new TensorEntry("w", DType.F32, Shape.of(2, 5), 100, 40))), Map.of());

    @Test
    void rangesThatNoFileHas() {
        refused("tensor 7: no such range: 1 bytes at -1", () -> new Wanted(7, 0, -1, 1, 1));
        refused("tensor 7: no such range: -1 bytes at 0", () -> new Wanted(7, 0, 0, -1, 1));
        refused("tensor 7: no such range: 2 bytes at 9223372036854775806",
                () -> new Wanted(7, 0, Long.MAX_VALUE - 1, 2, 1));
        refused("alignment 3: expected a power of two", () -> new Wanted(7, 0, 0, 1, 3));
        refused("alignment 0: expected a power of two", () -> new Wanted(7, 0, 0, 1, 0));
    }

    @Test
    void partsThatATensorHasNot() {
        assertEquals(new Wanted(0, 3, 120, 20, 4), Wanted.part(CATALOGUE, 0, 20, 20));
        assertEquals(new Wanted(0, 3, 140, 0, 4), Wanted.part(CATALOGUE, 0, 40, 0));
        assertEquals(new Wanted(0, 3, 100, 40, 4), Wanted.whole(CATALOGUE, 0));
        refused("tensor w has 40 bytes: there are no 21 at 20", () -> Wanted.part(CATALOGUE, 0, 20, 21));
        refused("tensor w has 40 bytes: there are no 41 at 0", () -> Wanted.part(CATALOGUE, 0, 0, 41));
        refused("tensor w has 40 bytes: there are no 1 at -1", () -> Wanted.part(CATALOGUE, 0, -1, 1));
        refused("tensor w has 40 bytes: there are no -1 at 1", () -> Wanted.part(CATALOGUE, 0, 1, -1));
        refused("tensor w has 40 bytes: there are no 40 at 9223372036854775807",
                () -> Wanted.part(CATALOGUE, 0, Long.MAX_VALUE, 40));
    }

    @ParameterizedTest
    @CsvSource({"0", "4095", "4097", "67112960", "-4096"})
    void chunksOfOddSizes(long chunkBytes) {
        refused("chunk of " + chunkBytes + " bytes: expected a multiple of 4096 from 4096 to 67108864",
                () -> new PlanLimits(1, chunkBytes, 64 << 20, PlanLimits.Share.ALL));
    }

    @Test
    void slabsOfNothing() {
        refused("slab of 0 bytes: expected at least 1", () -> new PlanLimits(0, 4096, 4096, PlanLimits.Share.ALL));
        refused("batch of 4095 bytes: expected no less than a chunk's 4096",
                () -> new PlanLimits(1, 4096, 4095, PlanLimits.Share.ALL));
        refused("batch of slab 4 that fills nothing", () -> new Batch(4, List.of(), List.of()));
        PlanLimits limits = new PlanLimits(1, 4096, 4096, PlanLimits.Share.ALL);
        Ranges ranges = Ranges.of(List.of(new Wanted(0, 0, 0, 1, 1)));
        Placements none = new Placements(ranges, new long[1], 0, 0);
        refused("slab 4 of 1 bytes in 1", () -> new SlabLayout(4, 1, 1, 1, none, limits));
        Placements one = new Placements(ranges, new long[1], 0, 1);
        refused("slab 4 of -1 bytes in 0", () -> new SlabLayout(4, -1, 0, 0, one, limits));
        refused("slab 4 of 2 bytes in 1", () -> new SlabLayout(4, 2, 1, 1, one, limits));
    }

    @ParameterizedTest
    @CsvSource({"0, 0", "-1, 1", "1, 1", "5, 4"})
    void ranksThatAWorldHasNot(int rank, int world) {
        refused("rank " + rank + " of " + world, () -> new PlanLimits.Share(rank, world));
    }

    @Test
    void chunksAndSegmentsThatDoNotFit() {
        refused("segment of 0 bytes from 1 to 2", () -> new Segment(1, 2, 0));
        refused("segment of 1 bytes from -1 to 2", () -> new Segment(-1, 2, 1));
        refused("segment of 1 bytes from 1 to -2", () -> new Segment(1, -2, 1));
        refused("chunk at 5 that fills nothing", () -> new Chunk(0, 0, 5, 10, 0, List.of()));
        refused("chunk at -5 that fills nothing", () -> new Chunk(0, 0, -5, 10, 0, List.of(new Segment(0, 0, 1))));
        refused("chunk of 10 bytes: segment ends behind it: Segment[chunkOffset=8, slabOffset=0, bytes=3]",
                () -> new Chunk(0, 0, 5, 10, 0, List.of(new Segment(8, 0, 3))));
    }

    private static void refused(String message, Executable use) {
        assertEquals(message, assertThrows(IllegalArgumentException.class, use).getMessage());
    }
}
