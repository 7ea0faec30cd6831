package io.instanttensor.bridge;

import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.MemorySegment;

/// Writes 64-bit numbers one behind the other into memory outside of the heap. Through a small array, since every
/// single access to such memory is a call.
final class WordWriter {
    private static final int BUFFER_WORDS = 1 << 11;

    private final MemorySegment block;
    private long writtenBytes;
    private final long[] buffer = new long[BUFFER_WORDS];
    private int filled;

    WordWriter(MemorySegment block) {
        this.block = block;
    }

    /// @throws IndexOutOfBoundsException now or later, where the block has no room for it
    void put(long value) {
        if (filled == BUFFER_WORDS) {
            flush();
        }
        buffer[filled++] = value;
    }

    /// @throws IndexOutOfBoundsException where the block has no room for what has been put
    void flush() {
        MemorySegment.copy(buffer, 0, block, JAVA_LONG, writtenBytes, filled);
        writtenBytes += filled * JAVA_LONG.byteSize();
        filled = 0;
    }
}
