package io.instanttensor.plan;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.lang.foreign.MemorySegment;
import java.util.List;
import org.junit.jupiter.api.Test;

class PlacementsTest {
    private static final Ranges RANGES = Ranges.of(List.of(
            new Wanted(0, 0, 0, 8, 1), new Wanted(1, 0, 8, 8, 1), new Wanted(2, 0, 16, 8, 1)));
    private static final long[] OFFSETS = {0, 0, 8};

    private final Placements lastTwo = new Placements(RANGES, OFFSETS, 1, 2);

    @Test
    void thoseOfOneSlabAreSeenAndNoOthers() {
        assertEquals(List.of(new Placement(RANGES.get(1), 0), new Placement(RANGES.get(2), 8)), lastTwo);
        assertThrows(IndexOutOfBoundsException.class, () -> lastTwo.get(-1));
        assertThrows(IndexOutOfBoundsException.class, () -> new Placements(RANGES, OFFSETS, 0, 2).get(2));
        assertThrows(IndexOutOfBoundsException.class, () -> new Placements(RANGES, OFFSETS, 2, 2));
    }

    @Test
    void offsetsAreCopiedToWhereTheyAreWanted() {
        long[] target = {-1, -1, -1, -1};
        MemorySegment memory = MemorySegment.ofArray(target);
        lastTwo.copyOffsets(memory, 1);
        assertArrayEquals(new long[] {-1, 0, 8, -1}, target);
        assertThrows(IndexOutOfBoundsException.class, () -> lastTwo.copyOffsets(memory, 3));
    }

    @Test
    void nobodyChangesAPlan() {
        assertThrows(UnsupportedOperationException.class, () -> lastTwo.remove(0));
        assertThrows(UnsupportedOperationException.class, () -> lastTwo.set(0, lastTwo.get(1)));
    }
}
