package io.instanttensor.read;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.instanttensor.posix.Errno;
import org.junit.jupiter.api.Test;

class UringTest extends ReadContract {
    @Override
    Backend backend() {
        return Backend.URING;
    }

    @Override
    String call() {
        return "io_uring read";
    }

    @Override
    void assumeUsable() {
        assumeTrue(IoUringProbe.refusal().isEmpty(), IoUringProbe::refusal);
    }

    @Test
    void whatCameIsWhatCameWithoutAGap() {
        int piece = RingReads.PIECE_BYTES;
        assertEquals(3L * piece, came(piece, piece, piece));
        assertEquals(2L * piece + 100, came(piece, piece, 100));
        assertEquals(piece + 100, came(piece, 100, piece));
        assertEquals(piece, came(piece, 0, 0));
        assertEquals(0, came(0, 0));
        assertEquals(piece, came(piece, -Errno.EIO, piece));
        assertEquals(100, came(100, -Errno.EIO));
        assertEquals(-Errno.EIO, came(-Errno.EIO, piece));
        assertEquals(-Errno.EAGAIN, came(-Errno.EAGAIN, -Errno.EAGAIN));
    }

    private static long came(int... results) {
        return RingReads.came(results, results.length);
    }
}
