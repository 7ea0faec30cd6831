package io.instanttensor.bridge;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.CharBuffer;
import java.nio.charset.CharsetEncoder;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;

/// Writes numbers and texts one behind the other into memory outside of the heap. Through a small buffer, since every
/// single access to such memory is a call; and no text leaves bytes of its own on the heap.
final class BlockWriter {
    private static final int BUFFER_BYTES = 1 << 14;
    private static final int CHARS = 1 << 10;

    private final MemorySegment block;
    private long writtenBytes;
    private final ByteBuffer buffer = ByteBuffer.allocate(BUFFER_BYTES).order(ByteOrder.nativeOrder());
    private final char[] chars = new char[CHARS];
    private final CharBuffer text = CharBuffer.wrap(chars);
    private final CharsetEncoder encoder = StandardCharsets.UTF_8.newEncoder()
            .onMalformedInput(CodingErrorAction.REPLACE)
            .onUnmappableCharacter(CodingErrorAction.REPLACE);

    BlockWriter(MemorySegment block) {
        this.block = block;
    }

    /// How many have been put.
    long bytes() {
        return writtenBytes + buffer.position();
    }

    /// @throws IndexOutOfBoundsException now or later, where the block has no room for it
    void putLong(long value) {
        if (buffer.remaining() < Long.BYTES) {
            flush();
        }
        buffer.putLong(value);
    }

    /// @throws IndexOutOfBoundsException now or later, where the block has no room for it
    void putByte(byte value) {
        if (!buffer.hasRemaining()) {
            flush();
        }
        buffer.put(value);
    }

    /// As UTF-8.
    ///
    /// @throws IndexOutOfBoundsException now or later, where the block has no room for it
    void putText(String value) {
        encoder.reset();
        int at = 0;
        while (at < value.length()) {
            int count = Math.min(value.length() - at, CHARS);
            value.getChars(at, at + count, chars, 0);
            text.clear().limit(count);
            if (encoder.encode(text, buffer, at + count == value.length()).isOverflow()) {
                flush();
            }
            // Less than all of them where the buffer was full, or half a pair was last.
            at += text.position();
        }
    }

    /// @throws IndexOutOfBoundsException where the block has no room for what has been put
    void flush() {
        int count = buffer.position();
        MemorySegment.copy(buffer.array(), 0, block, ValueLayout.JAVA_BYTE, writtenBytes, count);
        writtenBytes += count;
        buffer.clear();
    }
}
