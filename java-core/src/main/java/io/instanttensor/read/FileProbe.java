package io.instanttensor.read;

import io.instanttensor.file.CheckpointFile;
import io.instanttensor.file.FileException;
import io.instanttensor.posix.ErrnoException;
import io.instanttensor.posix.FileStat;
import io.instanttensor.posix.Posix;
import java.lang.foreign.Arena;
import java.nio.file.Path;

/// What the storage of a file can do: the questions on which [AccessChooser] decides, each answered on its
/// own, and the read past the page cache really made.
///
/// @param stat what the kernel says of alignments
/// @param directRefusal why the file takes no direct reads; empty where one has come back
/// @param directBytes what that read brought
/// @param cachedFraction of the file in the page cache, from 0 to 1
/// @param cacheMethod the system call that told, or why none could
public record FileProbe(
        FileStat stat, String directRefusal, long directBytes, double cachedFraction, String cacheMethod) {
    /// @throws FileException where the file cannot be opened
    public static FileProbe of(Path path) throws FileException {
        try (CheckpointFile file = CheckpointFile.open(path)) {
            PageCacheProbe.Finding cached = PageCacheProbe.probe(file);
            DirectSupport support = DirectSupport.of(file);
            String refusal = support.reason();
            long bytes = 0;
            if (support.available()) {
                try {
                    bytes = readDirectly(file, support.alignmentBytes());
                } catch (ErrnoException e) {
                    refusal = e.getMessage();
                }
            }
            return new FileProbe(file.stat(), refusal, bytes, cached.cachedFraction(), cached.method());
        }
    }

    /// The descriptor is this probe's own, so the flag may stay.
    private static long readDirectly(CheckpointFile file, int bytes) throws ErrnoException {
        Posix.setDirect(file.descriptor());
        try (Arena arena = Arena.ofConfined()) {
            return Posix.pread(file.descriptor(), arena.allocate(bytes, bytes), 0);
        }
    }
}
