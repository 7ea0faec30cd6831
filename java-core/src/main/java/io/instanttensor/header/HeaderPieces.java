package io.instanttensor.header;

import io.instanttensor.file.CheckpointFile;
import io.instanttensor.file.FileException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/// A header's bytes, read piece by piece, each larger than the one before: most headers come with the first read,
/// and a long one takes few, each of which is a round trip to storage.
final class HeaderPieces {
    private static final int FIRST_BYTES = 1 << 16;
    private static final int GROWTH = 4;
    private static final int MAX_BYTES = 1 << 20;

    private final CheckpointFile file;
    private final Arena arena;
    /// Holds any piece so far; new memory costs as much as its bytes.
    private MemorySegment memory = MemorySegment.NULL;
    private MemorySegment piece;
    private long start;

    /// Reads the first one.
    ///
    /// @param offset in the file, of the first byte that will be taken
    /// @param arena for the pieces
    HeaderPieces(CheckpointFile file, long offset, Arena arena) throws FileException {
        this.file = file;
        this.arena = arena;
        this.start = offset;
        this.piece = read(Math.min(FIRST_BYTES, file.bytes() - offset));
    }

    private MemorySegment read(long bytes) throws FileException {
        if (memory.byteSize() < bytes) {
            memory = arena.allocate(bytes);
        }
        MemorySegment next = memory.asSlice(0, bytes);
        file.readFully(next, start);
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
                piece = read(Math.min(endOffset - start, Math.min(MAX_BYTES, GROWTH * piece.byteSize())));
                inPiece = 0;
            }
            int copied = Math.toIntExact(Math.min(count - taken, piece.byteSize() - inPiece));
            MemorySegment.copy(piece, ValueLayout.JAVA_BYTE, inPiece, target, at + taken, copied);
            taken += copied;
        }
    }
}
