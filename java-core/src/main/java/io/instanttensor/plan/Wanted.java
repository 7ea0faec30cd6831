package io.instanttensor.plan;

import io.instanttensor.header.Catalogue;

/// A byte range that is to be loaded: a whole tensor, or some rows of one.
///
/// @param tensor index into the catalogue
/// @param file index of the file
/// @param alignmentBytes what its address on the device has to be a multiple of
public record Wanted(int tensor, int file, long fileOffset, long bytes, int alignmentBytes) {
    public Wanted {
        if (fileOffset < 0 || bytes < 0 || fileOffset > Long.MAX_VALUE - bytes) {
            throw new IllegalArgumentException(
                    "tensor " + tensor + ": no such range: " + bytes + " bytes at " + fileOffset);
        }
        if (Integer.bitCount(alignmentBytes) != 1) {
            throw new IllegalArgumentException("alignment " + alignmentBytes + ": expected a power of two");
        }
    }

    /// All of a tensor.
    public static Wanted whole(Catalogue catalogue, int tensor) {
        Catalogue.Located located = catalogue.tensors().get(tensor);
        return new Wanted(tensor, located.file(), located.entry().fileOffset(), located.entry().bytes(),
                located.entry().dtype().alignmentBytes());
    }

    /// A range of one.
    ///
    /// @throws IllegalArgumentException where it is not inside the tensor
    public static Wanted part(Catalogue catalogue, int tensor, long tensorOffset, long bytes) {
        Catalogue.Located located = catalogue.tensors().get(tensor);
        long available = located.entry().bytes();
        if (tensorOffset < 0 || bytes < 0 || bytes > available || tensorOffset > available - bytes) {
            throw new IllegalArgumentException("tensor " + located.entry().name() + " has " + available
                    + " bytes: there are no " + bytes + " at " + tensorOffset);
        }
        return new Wanted(tensor, located.file(), located.entry().fileOffset() + tensorOffset, bytes,
                located.entry().dtype().alignmentBytes());
    }

    long fileEnd() {
        return fileOffset + bytes;
    }
}
