package io.instanttensor.header;

import java.util.Arrays;

/// Shapes that have been met: a model has many tensors and few shapes.
final class RecentShapes {
    private final Shape[] slots = new Shape[64];

    /// @param dims of the shape, the first `rank` of them
    Shape of(long[] dims, int rank) {
        int hash = rank;
        for (int axis = 0; axis < rank; axis++) {
            hash = 31 * hash + Long.hashCode(dims[axis]);
        }
        int slot = (hash ^ hash >>> 16) & (slots.length - 1);
        Shape recent = slots[slot];
        boolean same = recent != null && recent.rank() == rank;
        for (int axis = 0; same && axis < rank; axis++) {
            same = recent.dim(axis) == dims[axis];
        }
        if (!same) {
            recent = Shape.of(Arrays.copyOf(dims, rank));
            slots[slot] = recent;
        }
        return recent;
    }
}
