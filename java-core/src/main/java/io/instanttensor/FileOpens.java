package io.instanttensor;

import io.instanttensor.file.CheckpointFile;
import io.instanttensor.posix.EngineThreads;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Future;

/// Opens many files: one after the other where that takes no time, and otherwise the rest at once, since on a network
/// each is some round trips.
final class FileOpens {
    private static final long PATIENCE_NANOS = 5_000_000;

    private FileOpens() {}

    /// @param files gets those that could be opened, in order, also where one could not
    /// @throws io.instanttensor.file.FileException of the first in order that cannot
    static void openAll(List<Path> paths, List<CheckpointFile> files) throws IOException {
        long start = System.nanoTime();
        for (Path path : paths) {
            if (System.nanoTime() - start > PATIENCE_NANOS) {
                openTogether(paths.subList(files.size(), paths.size()), files);
                return;
            }
            files.add(CheckpointFile.open(path));
        }
    }

    private static void openTogether(List<Path> paths, List<CheckpointFile> files) throws IOException {
        List<Future<CheckpointFile>> opens = new ArrayList<>(paths.size());
        try (ExecutorService threads = EngineThreads.pool(paths.size(), "instanttensor-open-")) {
            for (Path path : paths) {
                opens.add(threads.submit(() -> CheckpointFile.open(path)));
            }
        }
        IOException failure = null;
        for (Future<CheckpointFile> open : opens) {
            try {
                files.add(Outcome.of(open, "opening files"));
            } catch (IOException e) {
                failure = failure == null ? e : failure;
            }
        }
        if (failure != null) {
            throw failure;
        }
    }
}
