package io.instanttensor.read;

import io.instanttensor.file.CheckpointFile;
import io.instanttensor.posix.ErrnoException;
import io.instanttensor.posix.Posix;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.Optional;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.Assumptions;

/// Folders on file systems of the two kinds, and files in them.
public final class TestFolders {
    private static final Path SHARED_MEMORY = Path.of("/dev/shm");

    private TestFolders() {}

    /// A new folder that lies in memory; skips the test where the machine has none.
    public static Path inMemory() throws IOException {
        Assumptions.assumeTrue(Files.isWritable(SHARED_MEMORY), "there is no writable /dev/shm");
        return Files.createTempDirectory(SHARED_MEMORY, "instanttensor-test");
    }

    /// A new folder whose file system takes direct I/O; skips the test where none of the usual ones does.
    public static Path direct() throws IOException {
        Optional<Path> parent = Stream
                .of(System.getProperty("java.io.tmpdir"), "target", System.getProperty("user.home"))
                .map(name -> Path.of(name).toAbsolutePath())
                .filter(TestFolders::takesDirectReads)
                .findFirst();
        Assumptions.assumeTrue(parent.isPresent(), "no file system here takes direct I/O");
        return Files.createTempDirectory(parent.orElseThrow(), "instanttensor-test");
    }

    // Tries it, with nothing of the code under test but the system calls.
    private static boolean takesDirectReads(Path folder) {
        try {
            Path probe = Files.write(Files.createTempFile(folder, "probe", ""), new byte[8192]);
            try (CheckpointFile file = CheckpointFile.open(probe);
                    Arena arena = Arena.ofConfined()) {
                MemorySegment pages = arena.allocate(4096, 4096);
                Posix.setDirect(file.descriptor());
                return !DirectSupport.liesInMemory(file) && Posix.pread(file.descriptor(), pages, 4096) == 4096;
            } finally {
                Files.delete(probe);
            }
        } catch (IOException | ErrnoException e) {
            return false;
        }
    }

    /// Random bytes in a file.
    public static byte[] fill(Path file, int bytes) {
        byte[] content = new byte[bytes];
        new Random(bytes).nextBytes(content);
        try {
            Files.write(file, content);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return content;
    }

    public static void delete(Path folder) throws IOException {
        if (folder != null) {
            try (Stream<Path> all = Files.walk(folder)) {
                for (Path path : all.sorted(Comparator.reverseOrder()).toList()) {
                    Files.delete(path);
                }
            }
        }
    }
}
