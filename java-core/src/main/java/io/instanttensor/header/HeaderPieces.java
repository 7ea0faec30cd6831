package io.instanttensor.header;

import io.instanttensor.file.CheckpointFile;
import io.instanttensor.file.FileException;
import io.instanttensor.file.ReadUnderWay;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/// The start of a file, read piece by piece, each larger than the one before: most headers come with the first read,
/// and a long one takes few, each of which is a round trip to storage.
final class HeaderPieces {
    private static final int FIRST_BYTES = 1 << 16;
    private static final int GROWTH = 4;
    private static final int MAX_BYTES = 1 << 20;

    private final CheckpointFile file;
    private final Arena arena;
    private MemorySegment piece;
    private long start;

    /// Reads the first one.
    ///
    /// @param arena for the pieces
    HeaderPieces(CheckpointFile file, Arena arena) throws FileException {
        this.file = file;
        this.arena = arena;
        this.piece = read(0, Math.min(FIRST_BYTES, file.bytes()));
    }

    private MemorySegment read(long offset, long bytes) throws FileException {
        MemorySegment next = arena.allocate(bytes);
        try (ReadUnderWay read = ReadUnderWay.ofThread()) {
            read.begin(file, offset, bytes);
            file.readFully(next, offset);
        }
        return next;
    }

    /// Copies bytes, which follow those of the call before.
    ///
    /// @param offset in the file
    /// @param endOffset up to which later calls will ask
    void take(long offset, long endOffset, byte[] target, int at, int count) throws FileException {
        int taken = 0;
        while (taken < count) {
            long inPiece = offset + taken - start;
            if (inPiece == piece.byteSize()) {
                start += piece.byteSize();
                piece = read(start, Math.min(endOffset - start, Math.min(MAX_BYTES, GROWTH * piece.byteSize())));
                inPiece = 0;
            }
            int copied = Math.toIntExact(Math.min(count - taken, piece.byteSize() - inPiece));
            MemorySegment.copy(piece, ValueLayout.JAVA_BYTE, inPiece, target, at + taken, copied);
            taken += copied;
        }
    }
}
