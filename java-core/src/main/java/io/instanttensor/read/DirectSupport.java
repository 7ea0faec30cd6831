package io.instanttensor.read;

import io.instanttensor.file.CheckpointFile;
import io.instanttensor.plan.PlanLimits;
import io.instanttensor.posix.ErrnoException;
import io.instanttensor.posix.FileStat;
import io.instanttensor.posix.Posix;

/// Whether a file takes direct I/O, and with which alignment.
///
/// @param alignmentBytes what it wants; 0 where it takes none
/// @param reason why it takes none; empty where it does
public record DirectSupport(int alignmentBytes, String reason) {
    /// Where the kernel does not say (before Linux 6.1, and on many network file systems). It is what
    /// staging memory is aligned to, too.
    private static final int USUAL_ALIGNMENT_BYTES = 4096;
    /// A wish for more than this would cost more in bytes read twice than the page cache costs.
    static final int MAX_ALIGNMENT_BYTES = Math.toIntExact(PlanLimits.STAGING_UNIT_BYTES);
    private static final long TMPFS_MAGIC = 0x01021994L;
    private static final long RAMFS_MAGIC = 0x858458f6L;

    private static final DirectSupport IN_MEMORY = none("the file system lies in memory");

    static DirectSupport of(CheckpointFile file) {
        if (liesInMemory(file)) {
            return IN_MEMORY;
        }
        return of(file.stat());
    }

    static DirectSupport of(FileStat stat) {
        if (!stat.saysDirect()) {
            return new DirectSupport(USUAL_ALIGNMENT_BYTES, "");
        }
        int alignmentBytes = Math.max(stat.directOffsetAlignBytes(), stat.directMemoryAlignBytes());
        if (stat.directOffsetAlignBytes() == 0) {
            return none("the file system takes no direct I/O");
        }
        if (stat.directMemoryAlignBytes() > USUAL_ALIGNMENT_BYTES) {
            return none("the file system wants direct I/O into memory at multiples of "
                    + stat.directMemoryAlignBytes() + " bytes");
        }
        if (alignmentBytes > MAX_ALIGNMENT_BYTES || Integer.bitCount(alignmentBytes) != 1) {
            return none("the file system wants direct I/O in units of " + alignmentBytes + " bytes");
        }
        return new DirectSupport(Math.max(alignmentBytes, USUAL_ALIGNMENT_BYTES), "");
    }

    /// Whether the file's system keeps everything in memory anyway.
    static boolean liesInMemory(CheckpointFile file) {
        try {
            long magic = Posix.fileSystemMagic(file.descriptor()) & 0xFFFFFFFFL;
            return magic == TMPFS_MAGIC || magic == RAMFS_MAGIC;
        } catch (ErrnoException e) {
            return false;
        }
    }

    /// Whether that is because there is no disk.
    boolean inMemory() {
        return this == IN_MEMORY;
    }

    boolean available() {
        return alignmentBytes != 0;
    }

    private static DirectSupport none(String reason) {
        return new DirectSupport(0, reason);
    }
}
