package io.instanttensor.header;

import io.instanttensor.file.FileException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/// A header as nearly every writer writes it, read from its bytes: a fifth of the time that [HeaderJson]
/// takes, and most of what opening 60,000 tensors takes is this.
///
/// It refuses nothing. Whatever it does not expect (an escape, a character beyond ASCII, a field of another
/// name, a line break, any error) makes it give up, and [HeaderJson] reads the header from its start.
final class UsualHeader {
    static final int WINDOW_BYTES = 1 << 16;
    /// A longer entry is unusual where it reaches the window's end.
    private static final int ENTRY_BYTES = 1 << 14;
    /// Any number with so many digits fits a long.
    private static final int MAX_DIGITS = 18;
    private static final byte[] DTYPE = ascii("dtype\"");
    private static final byte[] SHAPE = ascii("shape\"");
    private static final byte[] OFFSETS = ascii("data_offsets\"");

    private final Source source;
    private final long headerBytes;
    private long takenBytes;
    /// Behind what has been taken stands a zero, which nothing expects: no loop looks for the end.
    private final byte[] window;
    private int next;
    private int limit;

    private final List<ParsedHeader.Tensor> tensors = new ArrayList<>();
    private Map<String, String> metadata;
    private final RecentShapes shapes = new RecentShapes();
    private long[] dims = new long[8];

    /// Where a header's bytes come from, piece by piece: one that is read whole waits for memory, not for the file.
    interface Source {
        /// Fills `target` from its `offset` on with `count` bytes, the header's first at `index` 0.
        void take(long index, byte[] target, int offset, int count) throws FileException;
    }

    private UsualHeader(Source source, long headerBytes) {
        this.source = source;
        this.headerBytes = headerBytes;
        this.window = new byte[Math.toIntExact(Math.min(WINDOW_BYTES, headerBytes)) + 1];
    }

    /// @return null where anything is unusual
    static ParsedHeader parse(Source source, long headerBytes) throws FileException {
        try {
            return new UsualHeader(source, headerBytes).header();
        } catch (UnusualException e) {
            return null;
        }
    }

    private ParsedHeader header() throws UnusualException, FileException {
        refill();
        expect('{');
        if (!found('}')) {
            do {
                if (limit - next < ENTRY_BYTES && takenBytes < headerBytes) {
                    refill();
                }
                readMember();
            } while (found(','));
            expect('}');
        }
        expectSpacesOnly();
        return new ParsedHeader(
                metadata == null ? null : Collections.unmodifiableMap(metadata), LastByName.of(tensors));
    }

    /// Spaces fill a header up, so that the data is aligned.
    private void expectSpacesOnly() throws UnusualException, FileException {
        skipSpaces();
        while (next == limit && takenBytes < headerBytes) {
            refill();
            skipSpaces();
        }
        if (next < limit) {
            throw UnusualException.INSTANCE;
        }
    }

    private void readMember() throws UnusualException {
        String name = text();
        expect(':');
        if (!name.equals(HeaderJson.METADATA)) {
            readEntry(name);
        } else if (metadata == null) {
            readMetadata();
        } else {
            throw UnusualException.INSTANCE;
        }
    }

    private void readMetadata() throws UnusualException {
        metadata = new LinkedHashMap<>();
        expect('{');
        if (found('}')) {
            return;
        }
        do {
            String key = text();
            expect(':');
            metadata.put(key, text());
        } while (found(','));
        expect('}');
    }

    private void readEntry(String name) throws UnusualException {
        DType dtype = null;
        Shape shape = null;
        long start = -1;
        long end = -1;
        expect('{');
        do {
            expect('"');
            if (dtype == null && reads(DTYPE)) {
                expect(':');
                dtype = DType.named(text());
                if (dtype == null) {
                    throw UnusualException.INSTANCE;
                }
            } else if (shape == null && reads(SHAPE)) {
                expect(':');
                shape = shape();
            } else if (end < 0 && reads(OFFSETS)) {
                expect(':');
                expect('[');
                start = number();
                expect(',');
                end = number();
                expect(']');
            } else {
                throw UnusualException.INSTANCE;
            }
        } while (found(','));
        expect('}');
        if (dtype == null || shape == null || end < 0) {
            throw UnusualException.INSTANCE;
        }
        tensors.add(new ParsedHeader.Tensor(name, dtype, shape, start, end));
    }

    private Shape shape() throws UnusualException {
        int rank = 0;
        expect('[');
        if (!found(']')) {
            do {
                if (rank == dims.length) {
                    throw UnusualException.INSTANCE;
                }
                dims[rank++] = number();
            } while (found(','));
            expect(']');
        }
        return shapes.of(dims, rank);
    }

    private long number() throws UnusualException {
        skipSpaces();
        byte[] digits = window;
        int from = next;
        int at = from;
        long value = 0;
        for (int digit = digits[at] - '0'; digit >= 0 && digit <= 9; digit = digits[at] - '0') {
            value = value * 10 + digit;
            at++;
        }
        // No digits, too many, or a zero before others.
        if (at == from || at - from > MAX_DIGITS || digits[from] == '0' && at - from > 1) {
            throw UnusualException.INSTANCE;
        }
        next = at;
        return value;
    }

    private String text() throws UnusualException {
        expect('"');
        byte[] chars = window;
        int from = next;
        int at = from;
        while (chars[at] >= ' ' && chars[at] != '"' && chars[at] != '\\') {
            at++;
        }
        if (chars[at] != '"') {
            throw UnusualException.INSTANCE;
        }
        next = at + 1;
        return new String(chars, from, at - from, StandardCharsets.ISO_8859_1);
    }

    /// Whether this is what comes next; then it has been read.
    private boolean reads(byte[] word) {
        byte[] chars = window;
        int from = next;
        for (int i = 0; i < word.length; i++) {
            if (chars[from + i] != word[i]) {
                return false;
            }
        }
        next = from + word.length;
        return true;
    }

    private void expect(char c) throws UnusualException {
        if (!found(c)) {
            throw UnusualException.INSTANCE;
        }
    }

    private boolean found(char c) {
        skipSpaces();
        if (window[next] != c) {
            return false;
        }
        next++;
        return true;
    }

    private void skipSpaces() {
        while (window[next] == ' ') {
            next++;
        }
    }

    /// Moves what is left to the window's start, and fills it up.
    private void refill() throws FileException {
        int left = limit - next;
        System.arraycopy(window, next, window, 0, left);
        int count = Math.toIntExact(Math.min(window.length - 1 - left, headerBytes - takenBytes));
        source.take(takenBytes, window, left, count);
        takenBytes += count;
        next = 0;
        limit = left + count;
        window[limit] = 0;
    }

    private static byte[] ascii(String text) {
        return text.getBytes(StandardCharsets.US_ASCII);
    }

    private static final class UnusualException extends Exception {
        private static final long serialVersionUID = 1L;
        private static final UnusualException INSTANCE = new UnusualException();

        private UnusualException() {
            super(null, null, false, false);
        }
    }
}
