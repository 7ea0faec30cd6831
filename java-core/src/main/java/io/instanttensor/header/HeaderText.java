package io.instanttensor.header;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;

import java.io.IOException;
import java.io.Reader;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharsetDecoder;
import java.nio.charset.CoderResult;
import java.nio.charset.StandardCharsets;

/// A header's bytes as text, decoded piece by piece: a header of 100 MB never lies on the heap. The JSON
/// parser gets characters and not bytes, so that it cannot guess at byte order marks and UTF-16.
///
/// The memory is the caller's, and so is the thread.
final class HeaderText {
    private static final int PIECE_BYTES = 1 << 15;

    private final MemorySegment bytes;
    private final boolean ascii;
    private final boolean escapes;
    private final long firstInvalidByte;

    /// Checks the whole text: a header that is no UTF-8 is not to be parsed.
    HeaderText(MemorySegment bytes) {
        this.bytes = bytes;
        byte[] piece = new byte[PIECE_BYTES];
        int or = 0;
        boolean backslash = false;
        for (long at = 0; at < bytes.byteSize(); at += piece.length) {
            int count = copy(at, piece, 0);
            for (int i = 0; i < count; i++) {
                or |= piece[i];
                backslash |= piece[i] == '\\';
            }
        }
        ascii = or >= 0;
        escapes = backslash;
        firstInvalidByte = ascii ? -1 : decodeAll();
    }

    /// The index of the first byte that is no UTF-8 (overlong forms and surrogates are none); -1 where all is.
    long firstInvalidByte() {
        return firstInvalidByte;
    }

    /// Whether there is a backslash anywhere. Where there is none, no string holds anything but what it shows.
    boolean escapes() {
        return escapes;
    }

    private long decodeAll() {
        Characters characters = new Characters();
        char[] unused = new char[PIECE_BYTES];
        try {
            while (characters.read(unused, 0, unused.length) >= 0) {
                // The reading is the check.
            }
            return -1;
        } catch (InvalidUtf8Exception e) {
            return e.index;
        }
    }

    /// @return how many bytes there were from `index` on, at most what `target` holds behind `offset`
    private int copy(long index, byte[] target, int offset) {
        int count = Math.toIntExact(Math.min(target.length - offset, bytes.byteSize() - index));
        MemorySegment.copy(bytes, JAVA_BYTE, index, target, offset, count);
        return count;
    }

    int byteAt(long index) {
        return Byte.toUnsignedInt(bytes.get(JAVA_BYTE, index));
    }

    /// The text from its start, where [#firstInvalidByte] found nothing.
    Reader reader() {
        return ascii ? new AsciiCharacters() : new Characters();
    }

    /// Where the character with this index starts; the end for anything behind it.
    long byteIndexOf(long charIndex) {
        long chars = 0;
        for (long index = 0; index < bytes.byteSize(); index++) {
            int lead = byteAt(index);
            if (lead < 0x80 || lead >= 0xC0) {
                if (chars >= charIndex) {
                    return index;
                }
                chars += lead >= 0xF0 ? 2 : 1;
            }
        }
        return bytes.byteSize();
    }

    private static final class InvalidUtf8Exception extends IOException {
        private static final long serialVersionUID = 1L;
        private final long index;

        InvalidUtf8Exception(long index) {
            this.index = index;
        }
    }

    /// Nearly every header is ASCII, and widening bytes takes half the time of decoding them.
    private final class AsciiCharacters extends Reader {
        private final byte[] piece = new byte[PIECE_BYTES];
        private long copiedBytes;
        private int next;
        private int limit;

        @Override
        public int read(char[] target, int offset, int length) {
            if (next == limit) {
                if (copiedBytes == bytes.byteSize()) {
                    return -1;
                }
                limit = copy(copiedBytes, piece, 0);
                copiedBytes += limit;
                next = 0;
            }
            int count = Math.min(length, limit - next);
            for (int i = 0; i < count; i++) {
                target[offset + i] = (char) piece[next + i];
            }
            next += count;
            return count;
        }

        @Override
        public void close() {
            // Owns nothing.
        }
    }

    private final class Characters extends Reader {
        // A fresh decoder reports what it cannot decode.
        private final CharsetDecoder decoder = StandardCharsets.UTF_8.newDecoder();
        private final ByteBuffer piece = ByteBuffer.allocate(PIECE_BYTES).limit(0);
        private long copiedBytes;

        @Override
        public int read(char[] target, int offset, int length) throws InvalidUtf8Exception {
            CharBuffer out = CharBuffer.wrap(target, offset, length);
            CoderResult result = decoder.decode(piece, out, copiedBytes == bytes.byteSize());
            while (result.isUnderflow() && copiedBytes < bytes.byteSize()) {
                refill();
                result = decoder.decode(piece, out, copiedBytes == bytes.byteSize());
            }
            if (result.isError()) {
                throw new InvalidUtf8Exception(copiedBytes - piece.remaining());
            }
            int decoded = out.position() - offset;
            return decoded == 0 && !piece.hasRemaining() ? -1 : decoded;
        }

        /// Keeps the beginning of a character that the last piece cut.
        private void refill() {
            piece.compact();
            int count = copy(copiedBytes, piece.array(), piece.position());
            copiedBytes += count;
            piece.position(piece.position() + count).flip();
        }

        @Override
        public void close() {
            // Owns nothing.
        }
    }
}
