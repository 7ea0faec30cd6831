package io.instanttensor;

import io.instanttensor.read.ChunkReader;
import io.instanttensor.stage.ReadPipeline;
import java.util.List;

/// How many threads read, and how many buffers each has.
final class ReaderCount {
    /// On an H200's host with 16 processors 24 readers were slower than 16.
    static final int MAX_READERS = 16;
    /// Fewer leave a device or a network idle while one of them waits.
    static final int MIN_READERS = 4;
    /// One that is read into, one whose copy is under way.
    static final int BUFFERS_PER_READER = 2;

    /// What a load with default options stages through.
    static final int MAX_BUFFERS = MAX_READERS * BUFFERS_PER_READER;
    /// The caller's thread and the one that takes slabs back want to run too: with 16 readers on 16
    /// processors loads were 3 % slower than with 14.
    private static final int OTHER_THREADS = 2;

    private ReaderCount() {}

    /// How many buffers are pinned while headers are read.
    ///
    /// @param bytes of the files
    static int preparedBuffers(long bytes, long chunkBytes) {
        return Math.toIntExact(Math.min(MAX_BUFFERS, Math.ceilDiv(bytes, chunkBytes)));
    }

    static ReadPipeline.Settings settings(LoadOptions options, List<ChunkReader> files) {
        int processors = Math.max(1, Runtime.getRuntime().availableProcessors() / options.share().world());
        boolean direct = files.stream().anyMatch(file -> file.access().direct());
        // Buffered reads are copies by the processor; direct ones wait, and more of them wait at once.
        int usual = direct ? MAX_READERS : Math.clamp(processors - OTHER_THREADS, MIN_READERS, MAX_READERS);
        int readers = options.readers().orElseGet(
                () -> Math.min(usual, options.readsInFlight().orElse(Integer.MAX_VALUE)));
        int inFlight = options.readsInFlight().orElse(readers * BUFFERS_PER_READER);
        int buffers = Math.max(1, inFlight / readers);
        return new ReadPipeline.Settings(readers, buffers, options.chunkBytes());
    }
}
