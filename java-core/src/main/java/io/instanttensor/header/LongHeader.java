package io.instanttensor.header;

import io.instanttensor.posix.EngineThreads;
import io.instanttensor.posix.Outcome;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Future;

/// A usual header of thousands of tensors, read and parsed in several parts at once: for one thread 60,000 tensors
/// are 25 ms of work.
final class LongHeader {
    /// Shorter ones take less than threads do.
    static final long MIN_BYTES = 1 << 20;
    static final int PARTS = 4;

    private LongHeader() {}

    /// Opens a header's bytes for one of the threads that read it.
    interface Sources {
        /// @param index of the first byte that will be asked for
        /// @param end index up to which bytes will be asked for
        /// @param arena of the thread
        UsualHeader.Source open(long index, long end, Arena arena) throws IOException;
    }

    /// @return null where anything is unusual
    static ParsedHeader parse(Sources sources, long headerBytes, int parts) throws IOException {
        List<UsualHeader> read = new ArrayList<>();
        try (ExecutorService threads = EngineThreads.pool(parts - 1, "instanttensor-header-part-")) {
            List<Future<UsualHeader>> others = new ArrayList<>();
            long firstEnd = headerBytes / parts;
            try {
                for (int number = 1; number < parts; number++) {
                    long from = headerBytes * number / parts;
                    long to = headerBytes * (number + 1) / parts;
                    others.add(threads.submit(() -> read(sources, from, to, headerBytes)));
                }
            } catch (OutOfMemoryError noMoreThreads) {
                // The process may have none: this one reads all.
                others.clear();
                firstEnd = headerBytes;
            }
            read.add(read(sources, 0, firstEnd, headerBytes));
            for (Future<UsualHeader> other : others) {
                read.add(Outcome.of(other, "reading a header"));
            }
        }
        return read.contains(null) ? null : UsualHeader.joined(read);
    }

    private static UsualHeader read(Sources sources, long from, long to, long headerBytes) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            // Its last entry may end far behind.
            long end = Math.min(to + 2 * UsualHeader.WINDOW_BYTES, headerBytes);
            return UsualHeader.part(sources.open(from, end, arena), from, to, headerBytes);
        }
    }
}
