package io.instanttensor.read;

import io.instanttensor.file.CheckpointFile;
import io.instanttensor.posix.ErrnoException;
import io.instanttensor.posix.Posix;
import java.lang.foreign.MemorySegment;
import java.util.function.LongPredicate;

/// How much of a file the page cache holds.
///
/// cachestat(2) counts pages, but only for those who own the file or may write to it, and on overlayfs it
/// looks past the real file's pages: where it finds none, mincore(2) is asked, by sample. To everybody else
/// mincore reports every page as cached, and a few reads that must not wait tell it instead. Those can hit what
/// was not there: they start the kernel reading, and some disks answer before it looks again.
final class PageCacheProbe {
    /// Enough to tell a cached file from one that is not; each costs a microsecond.
    private static final int SAMPLES = 16;

    /// @param cachedFraction from 0 to 1
    /// @param method the system call that told, for the report
    /// @param byRange whether [#holds] can tell of a part of it
    record Finding(double cachedFraction, String method, boolean byRange) {}

    /// Of a range of a file, what lies between two places in it, counted from its start.
    record Part(long from, long to) {
        boolean isEmpty() {
            return from == to;
        }
    }

    @FunctionalInterface
    private interface Sample {
        boolean cached(long offset) throws ErrnoException;
    }

    private PageCacheProbe() {}

    static Finding probe(CheckpointFile file) {
        try {
            long pages = Math.ceilDiv(file.bytes(), Posix.PAGE_BYTES);
            long cached = Posix.cachedPages(file.descriptor(), 0, file.bytes());
            if (cached == 0 && pages > 0) {
                return sampleMapping(file);
            }
            return new Finding(pages == 0 ? 1 : Math.min(1, (double) cached / pages), "cachestat", true);
        } catch (ErrnoException notOursOrOldKernel) {
            return sampleReads(file);
        }
    }

    /// Whether all of a range lies in the page cache. Costs a few microseconds; a read of 2 MiB takes hundreds.
    static boolean holds(CheckpointFile file, long offset, long bytes) {
        long start = offset & -Posix.PAGE_BYTES;
        long pages = Math.ceilDiv(offset + bytes - start, Posix.PAGE_BYTES);
        try {
            long cached = Posix.cachedPages(file.descriptor(), start, pages * Posix.PAGE_BYTES);
            return cached == pages || cached == 0 && isMappedRangeResident(file, offset, bytes);
        } catch (ErrnoException e) {
            // Then the whole file was judged by another way, and is not asked about in parts.
            return false;
        }
    }

    /// A range without what the page cache holds of its beginning and of its end. What it holds in between does not
    /// count: a second read from storage can take longer than the bytes that it saves.
    ///
    /// @param unit that the part begins and ends at multiples of, unless it ends with the range
    static Part missing(CheckpointFile file, long offset, long bytes, long unit) {
        if (holds(file, offset, bytes)) {
            return new Part(bytes, bytes);
        }
        long units = Math.ceilDiv(bytes, unit);
        long first = mostHeld(units - 1, count -> holds(file, offset, count * unit));
        // Others fill and empty the page cache meanwhile.
        long last = mostHeld(units - 1 - first, count -> {
            long start = (units - count) * unit;
            return holds(file, offset + start, bytes - start);
        });
        return new Part(first * unit, last == 0 ? bytes : (units - last) * unit);
    }

    /// The largest count that is held, as all below it are; 0 where not even 1 is.
    private static long mostHeld(long limit, LongPredicate held) {
        if (limit == 0 || !held.test(1)) {
            return 0;
        }
        long least = 1;
        long most = limit;
        while (least < most) {
            long middle = least + (most - least + 1) / 2;
            if (held.test(middle)) {
                least = middle;
            } else {
                most = middle - 1;
            }
        }
        return least;
    }

    private static boolean isMappedRangeResident(CheckpointFile file, long offset, long bytes) throws ErrnoException {
        MemorySegment mapped = Posix.mapUnreadable(file.descriptor(), file.bytes());
        try {
            return Posix.resident(mapped, offset, bytes);
        } finally {
            Posix.unmap(mapped);
        }
    }

    static Finding sampleMapping(CheckpointFile file) throws ErrnoException {
        MemorySegment mapped = Posix.mapUnreadable(file.descriptor(), file.bytes());
        try {
            return new Finding(sample(file, offset -> Posix.resident(mapped, offset, 1)), "mincore", true);
        } finally {
            Posix.unmap(mapped);
        }
    }

    static Finding sampleReads(CheckpointFile file) {
        try {
            return new Finding(
                    sample(file, offset -> Posix.readsWithoutWaiting(file.descriptor(), offset)), "RWF_NOWAIT", false);
        } catch (ErrnoException unsupported) {
            return new Finding(0, "no probe: " + unsupported.getMessage(), false);
        }
    }

    private static double sample(CheckpointFile file, Sample sample) throws ErrnoException {
        int hits = 0;
        // In the middle of equal parts: the header has just been read. From the end: the kernel reads ahead.
        for (int i = SAMPLES - 1; i >= 0; i--) {
            hits += sample.cached((long) ((i + 0.5) / SAMPLES * file.bytes())) ? 1 : 0;
        }
        return (double) hits / SAMPLES;
    }
}
