package io.instanttensor;

import io.instanttensor.read.ChunkReader;
import java.util.List;

/// How many threads read.
final class ReaderCount {
    /// On an H200's host with 16 processors 24 readers were slower than 16.
    static final int MAX_READERS = 16;
    /// Fewer leave a device or a network idle while one of them waits.
    static final int MIN_READERS = 4;
    /// The caller's thread and the one that takes slabs back want to run too: with 16 readers on 16
    /// processors loads were 3 % slower than with 14.
    private static final int OTHER_THREADS = 2;

    private ReaderCount() {}

    static int of(LoadOptions options, List<ChunkReader> files) {
        int processors = Math.max(1, Runtime.getRuntime().availableProcessors() / options.processes());
        boolean direct = files.stream().anyMatch(file -> file.access().direct());
        // Buffered reads are copies by the processor; direct ones wait, and more of them wait at once.
        int usual = direct ? MAX_READERS : Math.clamp(processors - OTHER_THREADS, MIN_READERS, MAX_READERS);
        return Math.min(options.readers().orElse(usual), options.readsInFlight().orElse(Integer.MAX_VALUE));
    }
}
