package io.instanttensor.plan;

import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.MemorySegment;
import java.util.AbstractList;
import java.util.Objects;
import java.util.RandomAccess;

/// What lies in one slab, in the order of its offsets; each placement is made when it is looked at.
public final class Placements extends AbstractList<Placement> implements RandomAccess {
    /// Of the whole load.
    private final Ranges ranges;
    /// Of the whole load, a number for each range.
    private final long[] slabOffsets;
    private final int first;
    private final int size;

    Placements(Ranges ranges, long[] slabOffsets, int first, int size) {
        Objects.checkFromIndexSize(first, size, slabOffsets.length);
        this.ranges = ranges;
        this.slabOffsets = slabOffsets;
        this.first = first;
        this.size = size;
    }

    @Override
    public Placement get(int index) {
        int at = first + Objects.checkIndex(index, size);
        return new Placement(ranges.get(at), slabOffsets[at]);
    }

    @Override
    public int size() {
        return size;
    }

    int file(int index) {
        return ranges.file(first + index);
    }

    long fileOffset(int index) {
        return ranges.fileOffset(first + index);
    }

    long bytes(int index) {
        return ranges.bytes(first + index);
    }

    long slabOffset(int index) {
        return slabOffsets[first + index];
    }

    /// Writes where each lies in the slab, in bytes, as 64-bit numbers, from a number's index on.
    public void copyOffsets(MemorySegment target, long index) {
        MemorySegment.copy(slabOffsets, first, target, JAVA_LONG, index * JAVA_LONG.byteSize(), size);
    }
}
