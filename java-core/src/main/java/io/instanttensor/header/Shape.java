package io.instanttensor.header;

import java.util.Arrays;

/// The dimensions of a tensor, outermost first; none for a scalar.
///
/// The format's dimensions are unsigned 64-bit numbers, and so are these: a dimension of 2^63 or
/// more is negative as a `long`. It can only occur beside a zero.
public final class Shape {
    private static final Shape SCALAR = new Shape(new long[0]);

    private final long[] dims;

    private Shape(long[] dims) {
        this.dims = dims;
    }

    public static Shape of(long... dims) {
        return dims.length == 0 ? SCALAR : new Shape(dims.clone());
    }

    public int rank() {
        return dims.length;
    }

    public long dim(int axis) {
        return dims[axis];
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof Shape shape && Arrays.equals(dims, shape.dims);
    }

    @Override
    public int hashCode() {
        return Arrays.hashCode(dims);
    }

    /// As the format and numpy write it: `[768, 2048]`.
    @Override
    public String toString() {
        StringBuilder text = new StringBuilder("[");
        for (int axis = 0; axis < dims.length; axis++) {
            text.append(axis == 0 ? "" : ", ").append(Long.toUnsignedString(dims[axis]));
        }
        return text.append(']').toString();
    }
}
