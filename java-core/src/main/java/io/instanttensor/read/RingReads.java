package io.instanttensor.read;

import io.instanttensor.file.CheckpointFile;
import io.instanttensor.file.FileException;
import io.instanttensor.posix.Errno;
import io.instanttensor.posix.ErrnoException;
import io.instanttensor.posix.Ring;
import java.lang.foreign.MemorySegment;

/// io_uring: a read is cut into pieces that are in flight together, and waits for all of them.
///
/// Every reader has a ring of its own. One for all of them was no faster at its best, when a single thread has it to
/// itself and no lock is taken, and copies of cached files then wait for that thread. Buffers are not registered: of
/// huge pages, as those for a GPU are, the kernel finds a piece's in no time, and registering each buffer with every
/// reader's ring would count so many times against RLIMIT_MEMLOCK.
final class RingReads implements PositionalReads {
    /// Enough of them for a read of the usual 2 MiB to keep a disk busy; smaller ones cost more processor time and
    /// were no faster.
    static final int PIECE_BYTES = 256 << 10;
    /// Of a longer read, the rest is read next.
    static final int MAX_PIECES = 32;

    private Ring ring;

    @Override
    public long readOnce(CheckpointFile file, MemorySegment target, long offset) throws FileException {
        int pieces;
        try {
            if (ring == null) {
                ring = Ring.open(MAX_PIECES);
            }
            pieces = queue(file, target, offset);
            ring.complete();
        } catch (ErrnoException e) {
            throw file.readNothing(offset, target.byteSize(), e);
        }
        return got(file, target, offset, pieces);
    }

    private int queue(CheckpointFile file, MemorySegment target, long offset) {
        long pieces = Math.min(Math.ceilDiv(target.byteSize(), PIECE_BYTES), ring.reads());
        for (long i = 0; i < pieces; i++) {
            long at = i * PIECE_BYTES;
            ring.queue(file.descriptor(), target.asSlice(at, Math.min(PIECE_BYTES, target.byteSize() - at)),
                    offset + at);
        }
        return Math.toIntExact(pieces);
    }

    /// What came without a gap: who asks for the rest meets what made it.
    private long got(CheckpointFile file, MemorySegment target, long offset, int pieces) throws FileException {
        long got = 0;
        int number = 0;
        int result;
        do {
            result = ring.result(number++);
            got += Math.max(0, result);
        } while (result == PIECE_BYTES && number < pieces);
        if (got > 0 || result == 0) {
            return got;
        }
        if (result == -Errno.EAGAIN || result == -Errno.EINTR) {
            // The kernel would not wait in its ring, or had no memory for it.
            return file.readOnce(target, offset);
        }
        throw file.readNothing(offset, target.byteSize(), Ring.error(result));
    }

    @Override
    public void close() {
        if (ring != null) {
            ring.close();
            ring = null;
        }
    }
}
