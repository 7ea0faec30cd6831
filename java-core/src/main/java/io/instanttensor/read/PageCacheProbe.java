package io.instanttensor.read;

import io.instanttensor.file.CheckpointFile;
import io.instanttensor.posix.ErrnoException;
import io.instanttensor.posix.Posix;

/// How much of a file the page cache holds.
///
/// cachestat(2) counts pages, but only for those who own the file or may write to it. For everybody
/// else a few reads that must not wait tell it by sample. mincore(2) is of no use: to those same users
/// it reports every page as cached.
final class PageCacheProbe {
    private static final long PAGE_BYTES = 4096;
    /// Enough to tell a cached file from one that is not; each costs a microsecond.
    private static final int SAMPLES = 16;

    /// @param cachedFraction from 0 to 1
    /// @param method the system call that told, for the report
    record Finding(double cachedFraction, String method) {}

    private PageCacheProbe() {}

    static Finding probe(CheckpointFile file) {
        try {
            long pages = Math.ceilDiv(file.bytes(), PAGE_BYTES);
            long cached = Posix.cachedPages(file.descriptor(), 0, file.bytes());
            if (cached == 0 && pages > 0) {
                // Its header has just been read: overlayfs, say, where cachestat looks past the real file's pages.
                return sample(file);
            }
            return new Finding(pages == 0 ? 1 : Math.min(1, (double) cached / pages), "cachestat");
        } catch (ErrnoException notOursOrOldKernel) {
            return sample(file);
        }
    }

    private static Finding sample(CheckpointFile file) {
        int hits = 0;
        try {
            for (int i = 0; i < SAMPLES; i++) {
                // In the middle of equal parts: the header has just been read, and would be a hit.
                long offset = (long) ((i + 0.5) / SAMPLES * file.bytes());
                hits += Posix.readsWithoutWaiting(file.descriptor(), offset) ? 1 : 0;
            }
            return new Finding((double) hits / SAMPLES, "RWF_NOWAIT");
        } catch (ErrnoException unsupported) {
            return new Finding(0, "no probe: " + unsupported.getMessage());
        }
    }
}
