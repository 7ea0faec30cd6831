package io.instanttensor.posix;

import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;
import static java.lang.foreign.ValueLayout.JAVA_SHORT;

import java.lang.foreign.MemorySegment;

/// What statx(2) says of a file.
///
/// @param directOffsetAlignBytes what direct I/O wants offsets and lengths to be multiples of; 0 where
///     the file takes no direct I/O or the kernel does not say
/// @param directMemoryAlignBytes the same for addresses
/// @param saysDirect whether the kernel answered the question about direct I/O at all (Linux 6.1)
public record FileStat(
        boolean regular, boolean directory, long bytes, int directOffsetAlignBytes, int directMemoryAlignBytes,
        boolean saysDirect) {
    static final long STATX_BYTES = 256;
    private static final int STATX_TYPE = 0x1;
    private static final int STATX_SIZE = 0x200;
    private static final int STATX_DIOALIGN = 0x2000;
    static final int MASK = STATX_TYPE | STATX_SIZE | STATX_DIOALIGN;
    private static final int S_IFMT = 0xF000;
    private static final int S_IFREG = 0x8000;
    private static final int S_IFDIR = 0x4000;

    static final int SIZE_MASK = STATX_SIZE;

    static long size(MemorySegment statx) {
        return statx.get(JAVA_LONG, 40);
    }

    static FileStat of(MemorySegment statx) {
        int answered = statx.get(JAVA_INT, 0);
        int type = statx.get(JAVA_SHORT, 28) & S_IFMT;
        boolean saysDirect = (answered & STATX_DIOALIGN) != 0;
        return new FileStat(
                type == S_IFREG, type == S_IFDIR, size(statx),
                saysDirect ? statx.get(JAVA_INT, 156) : 0, saysDirect ? statx.get(JAVA_INT, 152) : 0, saysDirect);
    }
}
