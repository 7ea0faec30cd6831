package io.instanttensor;

import io.instanttensor.read.ChunkReader;
import io.instanttensor.stage.StagingPool;
import java.util.List;

/// How many threads read.
///
/// @param first to begin with
/// @param most that they may become, where more read faster
record ReaderCount(int first, int most) {
    /// On an H200's host with 16 processors 24 readers were slower than 16.
    private static final int MAX_BUSY_READERS = 16;
    /// Fewer leave a device idle while one of them waits.
    private static final int MIN_READERS = 4;
    /// The caller's thread and the one that takes slabs back want to run too: with 16 readers on 16
    /// processors loads were 3 % slower than with 14.
    private static final int OTHER_THREADS = 2;
    /// Slow storage is busy with so many, of 2 MiB each; wherever more of them bring more, there are soon more.
    private static final int WAITING_READERS = 8;
    /// Each is a thread. What they read lies in staging buffers, so far more could not be in flight anyway.
    private static final int MAX_WAITING_READERS = 64;

    static ReaderCount of(LoadOptions options, List<ChunkReader> files) {
        int inFlight = options.readsInFlight().orElse(Integer.MAX_VALUE);
        if (options.readers().isPresent()) {
            return fixed(Math.min(options.readers().getAsInt(), inFlight));
        }
        // Reads from memory are copies by the processor; others wait, and more of them wait at once.
        if (files.stream().allMatch(file -> file.access().inMemory())) {
            int processors = Math.max(1, Runtime.getRuntime().availableProcessors() / options.processes());
            return fixed(Math.min(Math.clamp(processors - OTHER_THREADS, MIN_READERS, MAX_BUSY_READERS), inFlight));
        }
        long room = StagingPool.limitBytes(options.processes()) / options.chunkBytes();
        int most = Math.clamp(room, WAITING_READERS, MAX_WAITING_READERS);
        return options.readsInFlight().isPresent()
                ? fixed(Math.min(inFlight, most)) : new ReaderCount(WAITING_READERS, most);
    }

    private static ReaderCount fixed(int readers) {
        return new ReaderCount(readers, readers);
    }
}
