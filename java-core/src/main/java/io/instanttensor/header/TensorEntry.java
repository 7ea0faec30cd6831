package io.instanttensor.header;

import java.util.Objects;

/// One tensor as its file's header describes it.
///
/// @param name as written, any Unicode text, the empty one too
/// @param fileOffset of its first byte, from the start of the file (not of the data section)
/// @param bytes how many it has; 0 for a tensor with a zero dimension
public record TensorEntry(String name, DType dtype, Shape shape, long fileOffset, long bytes) {
    public TensorEntry {
        Objects.requireNonNull(name, "name");
        Objects.requireNonNull(dtype, "dtype");
        Objects.requireNonNull(shape, "shape");
        if (fileOffset < 0 || bytes < 0 || fileOffset > Long.MAX_VALUE - bytes) {
            throw new IllegalArgumentException(
                    "tensor " + name + ": no such range: " + bytes + " bytes at " + fileOffset);
        }
    }

    /// The offset just behind its last byte.
    public long fileEnd() {
        return fileOffset + bytes;
    }
}
