package io.instanttensor;

import io.instanttensor.file.CheckpointFile;
import io.instanttensor.header.HeaderReader;
import io.instanttensor.header.SafetensorsHeader;
import io.instanttensor.posix.EngineThreads;
import io.instanttensor.posix.Outcome;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Future;

/// Headers that are being read, many at once: each is a round trip to storage, and a checkpoint can have hundreds.
final class HeaderReads implements AutoCloseable {
    private final List<CheckpointFile> files;
    /// None for a single header, which is read by whoever asks for it.
    private final Optional<ExecutorService> threads;
    private final List<Future<SafetensorsHeader>> reads = new ArrayList<>();
    private boolean allRead;

    private HeaderReads(List<CheckpointFile> files) {
        this.files = files;
        this.threads = files.size() == 1
                ? Optional.empty()
                : Optional.of(EngineThreads.pool(files.size(), "instanttensor-header-"));
    }

    /// @param files stay the caller's, and open until this is closed
    static HeaderReads start(List<CheckpointFile> files) {
        HeaderReads started = new HeaderReads(files);
        try {
            started.threads.ifPresent(started::submitAll);
            return started;
        } catch (RuntimeException | Error e) {
            started.close();
            throw e;
        }
    }

    private void submitAll(ExecutorService executor) {
        for (CheckpointFile file : files) {
            reads.add(executor.submit(() -> HeaderReader.read(file)));
        }
    }

    /// All headers, in the order of their files. The first file in order that failed decides the error, whichever
    /// failed first.
    List<SafetensorsHeader> await() throws IOException {
        if (threads.isEmpty()) {
            return List.of(HeaderReader.read(files.getFirst()));
        }
        List<SafetensorsHeader> headers = new ArrayList<>(files.size());
        for (Future<SafetensorsHeader> read : reads) {
            headers.add(Outcome.of(read, "reading headers"));
        }
        allRead = true;
        return headers;
    }

    /// Waits until nobody reads any more; not for threads that have nothing to do but end.
    @Override
    public void close() {
        threads.ifPresent(allRead ? ExecutorService::shutdown : ExecutorService::close);
    }
}
