package io.instanttensor.header;

import static io.instanttensor.header.HeaderFault.HEADER_TOO_LARGE;
import static io.instanttensor.header.HeaderFault.HEADER_TOO_SMALL;
import static io.instanttensor.header.HeaderFault.INVALID_HEADER;
import static io.instanttensor.header.HeaderFault.INVALID_HEADER_DESERIALIZATION;
import static io.instanttensor.header.HeaderFault.INVALID_HEADER_LENGTH;

import io.instanttensor.file.CheckpointFile;
import io.instanttensor.file.FileException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;

/// Reads a file's header and makes all of the format's checks, in the format's order. Stateless: many
/// threads may read the headers of many files. The bytes stay off the heap and are gone on return.
public final class HeaderReader {
    /// The format's own limit.
    static final long MAX_HEADER_BYTES = 100_000_000;

    /// Of the header's length, which a file begins with.
    static final int LENGTH_BYTES = 8;
    private static final String GIT_LFS_START = "version ";
    private static final ValueLayout.OfLong LENGTH =
            ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    private HeaderReader() {}

    /// @param file stays the caller's
    /// @throws MalformedHeaderException where it is no whole safetensors file
    /// @throws FileException where it cannot be read
    public static SafetensorsHeader read(CheckpointFile file) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            HeaderPieces pieces = new HeaderPieces(file, 0, arena);
            long headerBytes = readLength(file, pieces);
            ParsedHeader usual = headerBytes < LongHeader.MIN_BYTES
                    ? UsualHeader.parse(from(pieces, headerBytes), headerBytes)
                    : parseLong(file, pieces, headerBytes);
            ParsedHeader parsed = usual != null ? usual : parse(file, headerBytes, arena);
            return checked(file.path(), file.bytes(), headerBytes, parsed);
        }
    }

    private static SafetensorsHeader checked(Path file, long fileBytes, long headerBytes, ParsedHeader parsed)
            throws MalformedHeaderException {
        long dataOffset = LENGTH_BYTES + headerBytes;
        DataLayout layout = new DataLayout(file, fileBytes, dataOffset);
        boolean asciiNames = parsed.tensors() instanceof UsualTensors;
        return new SafetensorsHeader(
                file, fileBytes, dataOffset, parsed.metadata(), layout.check(parsed.tensors()), asciiNames);
    }

    /// The header of a file that does not exist, as a usual one is read.
    ///
    /// @param text of the header, of the usual kind
    /// @throws IllegalArgumentException for another
    public static SafetensorsHeader parse(Path file, byte[] text, long dataBytes) throws IOException {
        ParsedHeader parsed = UsualHeader.parse(
                (index, target, offset, count) -> System.arraycopy(
                        text, Math.toIntExact(index), target, offset, count), text.length);
        if (parsed == null) {
            throw new IllegalArgumentException("a header of " + text.length + " bytes that is not usual");
        }
        return checked(file, LENGTH_BYTES + text.length + dataBytes, text.length, parsed);
    }

    private static long readLength(CheckpointFile file, HeaderPieces pieces) throws IOException {
        if (file.bytes() < LENGTH_BYTES) {
            throw fault(HEADER_TOO_SMALL, file, "expected at least the 8 bytes of the header's length, found a file of "
                    + file.bytes());
        }
        byte[] bytes = new byte[LENGTH_BYTES];
        pieces.take(0, LENGTH_BYTES, bytes, 0, LENGTH_BYTES);
        long length = MemorySegment.ofArray(bytes).get(LENGTH, 0);
        if (Long.compareUnsigned(length, MAX_HEADER_BYTES) > 0) {
            throw fault(HEADER_TOO_LARGE, file, "expected a header of at most " + Words.grouped(MAX_HEADER_BYTES)
                    + " bytes, found a length of " + Words.grouped(length) + " at offset 0" + textInstead(bytes));
        }
        if (length > file.bytes() - LENGTH_BYTES) {
            throw fault(INVALID_HEADER_LENGTH, file, "expected a header of " + Words.grouped(length)
                    + " bytes at offset 8, found the file's end at " + Words.grouped(file.bytes()));
        }
        return length;
    }

    /// What the file is where its first bytes are text; empty where they are not.
    private static String textInstead(byte[] start) {
        String text = new String(start, StandardCharsets.ISO_8859_1);
        if (text.equals(GIT_LFS_START)) {
            return ": it begins like a Git LFS pointer, which stands for the file until git lfs pull fetches it";
        }
        return text.chars().allMatch(c -> c >= ' ' && c < 0x7f || c == '\n') ? ": it begins with text" : "";
    }

    private static ParsedHeader parseLong(CheckpointFile file, HeaderPieces pieces, long headerBytes)
            throws IOException {
        // The first part follows what has been read already.
        return LongHeader.parse((index, end, arena) -> from(
                index == 0 ? pieces : new HeaderPieces(file, LENGTH_BYTES + index, arena), end),
                headerBytes, LongHeader.PARTS);
    }

    private static UsualHeader.Source from(HeaderPieces pieces, long end) {
        return (index, target, offset, count) ->
                pieces.take(LENGTH_BYTES + index, LENGTH_BYTES + end, target, offset, count);
    }

    private static ParsedHeader parse(CheckpointFile file, long headerBytes, Arena arena) throws IOException {
        MemorySegment bytes = arena.allocate(headerBytes);
        file.readFully(bytes, LENGTH_BYTES);
        HeaderText text = new HeaderText(bytes);
        long invalid = text.firstInvalidByte();
        if (invalid >= 0) {
            throw fault(INVALID_HEADER, file, String.format("expected UTF-8, found 0x%02x at offset %s",
                    text.byteAt(invalid), Words.grouped(LENGTH_BYTES + invalid)));
        }
        try {
            return HeaderJson.parse(text);
        } catch (HeaderJsonException e) {
            long offset = LENGTH_BYTES + text.byteIndexOf(e.charOffset());
            throw fault(INVALID_HEADER_DESERIALIZATION, file, e.getMessage() + ", at offset " + Words.grouped(offset));
        }
    }

    private static MalformedHeaderException fault(HeaderFault fault, CheckpointFile file, String detail) {
        return new MalformedHeaderException(fault, file.path(), detail);
    }
}
