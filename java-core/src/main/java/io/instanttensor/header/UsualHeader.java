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
    /// Few are shorter, most are longer: a list that grows leaves twice its size behind.
    private static final int MEMBER_BYTES = 80;
    /// Any number with so many digits fits a long.
    private static final int MAX_DIGITS = 18;
    private static final byte[] DTYPE = ascii("dtype\"");
    private static final byte[] SHAPE = ascii("shape\"");
    private static final byte[] OFFSETS = ascii("data_offsets\"");

    /// Ends an entry, and begins another.
    private static final byte[] BETWEEN_ENTRIES = ascii("},\"");

    private final Source source;
    private final long headerBytes;
    /// Index of the first byte that has not been taken.
    private long takenBytes;
    /// Behind what has been taken stands a zero, which nothing expects: no loop looks for the end.
    private final byte[] window;
    private int next;
    private int limit;

    private final long dataOffset;
    private final List<TensorEntry> tensors;
    private Map<String, String> metadata;
    /// Index of the first member's first byte, and of what has not been read.
    private long start;
    private long stop;
    private final RecentShapes shapes = new RecentShapes();
    /// Most tensors have the type of the one before: no text is made of it again.
    private DType lastDtype;
    private byte[] lastDtypeQuoted;
    private long[] dims = new long[8];

    /// Where a header's bytes come from, piece by piece: one that is read whole waits for memory, not for the file.
    interface Source {
        /// Fills `target` from its `offset` on with `count` bytes, the header's first at `index` 0.
        void take(long index, byte[] target, int offset, int count) throws FileException;
    }

    /// @param memberBytes of the members that will be read, more or less
    private UsualHeader(Source source, long firstByte, long memberBytes, long headerBytes) {
        this.source = source;
        this.takenBytes = firstByte;
        this.headerBytes = headerBytes;
        this.dataOffset = HeaderReader.LENGTH_BYTES + headerBytes;
        this.tensors = new ArrayList<>(Math.toIntExact(memberBytes / MEMBER_BYTES));
        this.window = new byte[Math.toIntExact(Math.min(WINDOW_BYTES, headerBytes - firstByte)) + 1];
    }

    /// @return null where anything is unusual
    static ParsedHeader parse(Source source, long headerBytes) throws FileException {
        UsualHeader whole = part(source, 0, headerBytes, headerBytes);
        return whole == null ? null : joined(List.of(whole));
    }

    /// Some of a header's members: those from the first that begins behind an index up to the first that begins behind
    /// another. A text may look like an entry's end; then the part before ends elsewhere, and [#joined] gives up.
    ///
    /// @param from index in the header; 0 for the part that it begins with
    /// @param to index in the header; its length for the part that it ends with
    /// @return null where anything is unusual
    static UsualHeader part(Source source, long from, long to, long headerBytes) throws FileException {
        try {
            UsualHeader part = new UsualHeader(source, from, to - from, headerBytes);
            part.readMembers(from, to);
            return part;
        } catch (UnusualException e) {
            return null;
        }
    }

    /// @param parts of one header, in order
    /// @return null where they are not all of it
    static ParsedHeader joined(List<UsualHeader> parts) {
        int count = 0;
        for (UsualHeader part : parts) {
            count += part.tensors.size();
        }
        List<TensorEntry> tensors = new ArrayList<>(count);
        Map<String, String> metadata = null;
        long stop = 0;
        for (UsualHeader part : parts) {
            if (part.start != stop || part.metadata != null && metadata != null) {
                return null;
            }
            stop = part.stop;
            tensors.addAll(part.tensors);
            metadata = part.metadata == null ? metadata : part.metadata;
        }
        return new ParsedHeader(
                metadata == null ? null : Collections.unmodifiableMap(metadata),
                new UsualTensors(parts.getFirst().dataOffset, LastByName.of(tensors, TensorEntry::name)));
    }

    private void readMembers(long from, long to) throws UnusualException, FileException {
        refill();
        if (from == 0) {
            expect('{');
        } else {
            skipToEntry();
            start = index();
        }
        if (from > 0 || !found('}')) {
            do {
                if (limit - next < ENTRY_BYTES && takenBytes < headerBytes) {
                    refill();
                }
                readMember();
            } while (found(',') && index() < to + BETWEEN_ENTRIES.length - 1);
            if (to == headerBytes) {
                expect('}');
            }
        }
        if (to == headerBytes) {
            expectSpacesOnly();
        }
        stop = index();
    }

    private long index() {
        return takenBytes - (limit - next);
    }

    private void skipToEntry() throws UnusualException {
        while (!reads(BETWEEN_ENTRIES)) {
            if (++next > limit - BETWEEN_ENTRIES.length) {
                throw UnusualException.INSTANCE;
            }
        }
        next--;
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
        // None is less than what the loop leaves where there are no offsets.
        long start = 0;
        long end = -1;
        expect('{');
        do {
            expect('"');
            if (dtype == null && reads(DTYPE)) {
                expect(':');
                dtype = dtype();
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
        if (dtype == null || shape == null || end < start) {
            throw UnusualException.INSTANCE;
        }
        tensors.add(new TensorEntry(name, dtype, shape, dataOffset + start, end - start));
    }

    private DType dtype() throws UnusualException {
        skipSpaces();
        if (lastDtype == null || !reads(lastDtypeQuoted)) {
            lastDtype = DType.named(text());
            if (lastDtype == null) {
                throw UnusualException.INSTANCE;
            }
            lastDtypeQuoted = ascii("\"".concat(lastDtype.name()).concat("\""));
        }
        return lastDtype;
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
