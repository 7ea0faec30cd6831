package io.instanttensor;

import io.instanttensor.file.CheckpointFile;
import io.instanttensor.header.HeaderReader;
import io.instanttensor.header.SafetensorsHeader;
import io.instanttensor.posix.EngineThreads;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;

/// Reads many headers at once: each is a round trip to storage, and a checkpoint can have hundreds.
final class HeaderReads {
    private static final int MAX_THREADS = 16;

    private HeaderReads() {}

    static List<SafetensorsHeader> readAll(List<CheckpointFile> files) throws IOException {
        if (files.size() == 1) {
            return List.of(HeaderReader.read(files.getFirst()));
        }
        // A builder's own factory counts by a handle, which the JVM takes 5 ms to link.
        AtomicInteger started = new AtomicInteger();
        try (ExecutorService threads = Executors.newFixedThreadPool(
                Math.min(files.size(), MAX_THREADS),
                task -> EngineThreads.builder()
                        .name("instanttensor-header-" + started.getAndIncrement()).unstarted(task))) {
            List<Future<SafetensorsHeader>> reads = new ArrayList<>(files.size());
            for (CheckpointFile file : files) {
                reads.add(threads.submit(() -> HeaderReader.read(file)));
            }
            List<SafetensorsHeader> headers = new ArrayList<>(files.size());
            // The first file in order that failed decides the error, whichever failed first.
            for (Future<SafetensorsHeader> read : reads) {
                headers.add(Outcome.of(read, "reading headers"));
            }
            return headers;
        }
    }
}
