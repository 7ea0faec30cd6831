package io.instanttensor.read;

import java.util.List;

/// How one file is read, and why so.
///
/// @param backend the candidate that was taken; null where none was asked for
/// @param reason of the choice, in words for the user
/// @param passedOver candidates before it that could not serve, each with its reason
/// @param alignmentBytes what offsets, lengths and addresses have to be multiples of; 1 where buffered
/// @param inMemory whether its bytes were there already: in the page cache, nearly all of them, or in a file system
///     that has no disk
public record FileAccess(
        Mode mode, Backend backend, String reason, List<String> passedOver, int alignmentBytes, boolean inMemory) {
    /// Past the page cache, or through it; mixed: chunk by chunk, what it holds by then is read through it, and the
    /// rest past it.
    public enum Mode {
        DIRECT,
        BUFFERED,
        MIXED
    }

    public FileAccess {
        if (mode == Mode.BUFFERED ? alignmentBytes != 1 : Integer.bitCount(alignmentBytes) != 1) {
            throw new IllegalArgumentException(mode + " access with an alignment of " + alignmentBytes);
        }
    }

    /// Whether reads can be past the page cache.
    public boolean direct() {
        return mode != Mode.BUFFERED;
    }

    /// pread, unless another was asked for.
    public ReadMethod method() {
        return backend == null ? ReadMethod.PREAD : backend.method();
    }
}
