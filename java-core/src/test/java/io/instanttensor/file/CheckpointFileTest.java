package io.instanttensor.file;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assumptions.assumeFalse;

import io.instanttensor.posix.Errno;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class CheckpointFileTest {
    @TempDir
    Path dir;

    @Test
    void readsAtThePositionThatIsAskedFor() throws IOException {
        Path path = Files.write(dir.resolve("a"), new byte[] {1, 2, 3, 4, 5});
        try (CheckpointFile file = CheckpointFile.open(path); Arena arena = Arena.ofConfined()) {
            MemorySegment target = arena.allocate(3);

            file.readFully(target, 1);

            assertEquals(path, file.path());
            assertEquals(5, file.bytes());
            assertArrayEquals(new byte[] {2, 3, 4}, target.toArray(ValueLayout.JAVA_BYTE));
        }
    }

    @Test
    void readUpToReturnsWhatTheFileHad() throws IOException {
        Path path = Files.write(dir.resolve("a"), new byte[] {1, 2, 3, 4, 5});
        try (CheckpointFile file = CheckpointFile.open(path); Arena arena = Arena.ofConfined()) {
            assertEquals(2, file.readUpTo(arena.allocate(8), 3, 8));
            assertEquals(0, file.readUpTo(arena.allocate(8), 5, 8));
        }
    }

    @Test
    void readsWaitForTheirBytes() throws IOException {
        try (CheckpointFile file = CheckpointFile.open(Files.write(dir.resolve("a"), new byte[1]))) {
            String flags = Files.readString(Path.of("/proc/self/fdinfo/" + file.descriptor()))
                    .replaceAll("(?s).*flags:\\s*([0-7]+).*", "$1");
            // O_NONBLOCK
            assertEquals(0, Long.parseLong(flags, 8) & 04000);
        }
    }

    @Test
    void aMissingFileIsNamedWithItsErrno() {
        Path path = dir.resolve("missing.safetensors");

        FileException e = assertThrows(FileException.class, () -> CheckpointFile.open(path));

        assertEquals(path + ": open: No such file or directory (errno 2)", e.getMessage());
        assertEquals(Errno.ENOENT, e.errno());
        assertEquals(path, e.file());
    }

    @Test
    void aFolderIsNoCheckpointFile() {
        FileException e = assertThrows(FileException.class, () -> CheckpointFile.open(dir));

        assertEquals(dir + ": expected a regular file, found a directory", e.getMessage());
        assertEquals(Errno.EISDIR, e.errno());
    }

    @Test
    void aFifoIsRefusedAndNotWaitedFor() throws IOException, InterruptedException {
        Path path = dir.resolve("fifo");
        assertEquals(0, new ProcessBuilder("mkfifo", path.toString()).start().waitFor());

        FileException e = assertThrows(FileException.class, () -> CheckpointFile.open(path));

        assertEquals(path + ": expected a regular file, found something else", e.getMessage());
        assertEquals(Errno.EINVAL, e.errno());
    }

    @Test
    void aFileThatMayNotBeReadIsRefused() throws IOException {
        Path path = Files.write(dir.resolve("secret"), new byte[8]);
        Files.setPosixFilePermissions(path, PosixFilePermissions.fromString("---------"));
        assumeFalse(Files.isReadable(path), "root reads everything");

        FileException e = assertThrows(FileException.class, () -> CheckpointFile.open(path));

        assertEquals(path + ": open: Permission denied (errno 13)", e.getMessage());
        assertEquals(Errno.EACCES, e.errno());
    }

    @Test
    void aFileTruncatedAfterOpeningSaysWhatIsMissing() throws IOException {
        Path path = Files.write(dir.resolve("a"), new byte[2000]);
        try (CheckpointFile file = CheckpointFile.open(path); Arena arena = Arena.ofConfined()) {
            Files.write(path, new byte[1500]);
            MemorySegment target = arena.allocate(1000);

            FileException e = assertThrows(FileException.class, () -> file.readFully(target, 1000));

            assertEquals(path + ": read 500 of 1,000 bytes at 1,000: the file ends there"
                    + " (it had 2,000 bytes when it was opened)", e.getMessage());
            assertEquals(0, e.errno());
        }
    }

    @Test
    void whatWasReadOfAFileThatShrankMeanwhileCountsUpToItsNewEnd() throws IOException {
        Path path = Files.write(dir.resolve("a"), new byte[2000]);
        try (CheckpointFile file = CheckpointFile.open(path)) {
            assertDoesNotThrow(() -> file.requireStillWhole(1000, 1000));
            Files.write(path, new byte[1500]);
            FileException e = assertThrows(FileException.class, () -> file.requireStillWhole(1000, 1000));
            assertEquals(path + ": read 500 of 1,000 bytes at 1,000: the file has 1,500 bytes"
                    + " (it had 2,000 bytes when it was opened)", e.getMessage());
        }
    }

    @Test
    void aFileOfTheSameSizeIsUnchanged() throws IOException {
        try (CheckpointFile file = CheckpointFile.open(Files.write(dir.resolve("a"), new byte[2000]))) {
            assertDoesNotThrow(() -> file.requireUnchanged(8, 1000));
        }
    }

    @Test
    void aFileThatGrewOrShrankIsNotTheOneThatWasOpened() throws IOException {
        Path path = Files.write(dir.resolve("a"), new byte[2000]);
        try (CheckpointFile file = CheckpointFile.open(path)) {
            Files.write(path, new byte[2001]);
            FileException grown = assertThrows(FileException.class, () -> file.requireUnchanged(8, 1000));
            Files.write(path, new byte[1]);
            FileException shrunk = assertThrows(FileException.class, () -> file.requireUnchanged(8, 1000));

            assertEquals(path + ": expected to read 1,000 bytes at 8, read none: the file has 2,001 bytes,"
                    + " and had 2,000 when it was opened", grown.getMessage());
            assertEquals(path + ": expected to read 1,000 bytes at 8, read none: the file has 1 bytes,"
                    + " and had 2,000 when it was opened", shrunk.getMessage());
        }
    }

    @Test
    void aReadThatTheKernelRefusesSaysWhereItWas() throws IOException {
        Path path = Files.write(dir.resolve("a"), new byte[10]);
        try (CheckpointFile file = CheckpointFile.open(path); Arena arena = Arena.ofConfined()) {
            MemorySegment target = arena.allocate(4);

            FileException e = assertThrows(FileException.class, () -> file.readFully(target, -1));

            assertEquals(path + ": expected to read 4 bytes at -1, read none: pread: Invalid argument (errno 22)",
                    e.getMessage());
            assertEquals(Errno.EINVAL, e.errno());
        }
    }

    @Test
    void closingTwiceDoesNotCloseSomeoneElsesDescriptor() throws IOException {
        Path path = Files.write(dir.resolve("a"), new byte[] {1, 2, 3});
        CheckpointFile first = CheckpointFile.open(path);
        first.close();
        // Most likely gets the number that has just become free.
        try (CheckpointFile second = CheckpointFile.open(path); Arena arena = Arena.ofConfined()) {
            first.close();

            assertDoesNotThrow(() -> second.readFully(arena.allocate(3), 0));
        }
    }
}
