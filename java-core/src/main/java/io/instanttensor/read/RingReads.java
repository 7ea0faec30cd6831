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
/// itself and no lock is taken, and copies of cached files then wait for that thread. Buffers are not registered:
/// staging is of huge pages, with which that saves nothing, and every buffer would be pinned again, and count again
/// against RLIMIT_MEMLOCK, for each reader's ring.
final class RingReads implements PositionalReads {
    /// Enough of them for a read of the usual 2 MiB to keep a disk busy; smaller ones cost more processor time and
    /// were no faster.
    static final int PIECE_BYTES = 256 << 10;
    /// Of a longer read, the rest is read next.
    static final int MAX_PIECES = 32;

    private Ring ring;
    /// There was no descriptor for a ring: this reader reads one piece after the other, and as right.
    private boolean withoutRing;

    @Override
    public long readOnce(CheckpointFile file, MemorySegment target, long offset) throws FileException {
        int pieces;
        try {
            if (!openRing()) {
                return file.readOnce(target, offset);
            }
            pieces = queue(file, target, offset);
            ring.complete();
        } catch (ErrnoException e) {
            throw file.readNothing(offset, target.byteSize(), e);
        }
        long came = came(ring.results(), pieces);
        if (came == -Errno.EAGAIN || came == -Errno.EINTR) {
            // The kernel had no memory for it in its ring, or would not wait there.
            return file.readOnce(target, offset);
        }
        if (came < 0) {
            throw file.readNothing(offset, target.byteSize(), Ring.error(Math.toIntExact(came)));
        }
        return came;
    }

    /// Whether there is a ring.
    private boolean openRing() throws ErrnoException {
        if (ring == null && !withoutRing) {
            try {
                ring = Ring.openUnlessScarce(MAX_PIECES);
            } catch (ErrnoException e) {
                if (e.errno() != Errno.EMFILE && e.errno() != Errno.ENFILE) {
                    throw e;
                }
                withoutRing = true;
            }
        }
        return !withoutRing;
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
    ///
    /// @param results of pieces, all of which but the last are [#PIECE_BYTES] long
    /// @return bytes; less than 0 where there are none, and an error is the reason
    static long came(int[] results, int pieces) {
        long came = 0;
        for (int i = 0; i < pieces; i++) {
            if (results[i] < 0) {
                return i == 0 ? results[i] : came;
            }
            came += results[i];
            if (results[i] < PIECE_BYTES) {
                break;
            }
        }
        return came;
    }

    @Override
    public void close() {
        if (ring != null) {
            ring.close();
            ring = null;
        }
    }
}
