package io.instanttensor.posix;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.RandomAccessFile;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

@Timeout(60)
class FileMappingTest {
    private static final long HUGE_BYTES = 5L << 30;

    @TempDir
    Path folder;

    @Test
    void bytesBehindTheSecondGigabyteAreReached() throws Exception {
        Path path = folder.resolve("huge");
        byte[] words = "far behind".getBytes(StandardCharsets.US_ASCII);
        try (RandomAccessFile file = new RandomAccessFile(path.toFile(), "rw")) {
            // Sparse: it takes no room.
            file.setLength(HUGE_BYTES);
            file.seek(HUGE_BYTES - words.length);
            file.write(words);
        }
        int fd = Posix.open(path);
        try (FileMapping mapping = FileMapping.of(fd, HUGE_BYTES);
                Arena arena = Arena.ofConfined()) {
            MemorySegment target = arena.allocate(words.length);
            assertEquals(words.length, mapping.copy(HUGE_BYTES - words.length, target));
            assertArrayEquals(words, target.toArray(ValueLayout.JAVA_BYTE));
        } finally {
            Posix.close(fd);
        }
    }

    @Test
    void bytesOutsideAreRefused() throws Exception {
        Path path = Files.write(folder.resolve("small"), new byte[100]);
        int fd = Posix.open(path);
        try (FileMapping mapping = FileMapping.of(fd, 100);
                Arena arena = Arena.ofConfined()) {
            MemorySegment target = arena.allocate(51);
            assertThrows(IndexOutOfBoundsException.class, () -> mapping.copy(50, target));
            assertThrows(IndexOutOfBoundsException.class, () -> mapping.copy(-1, target));
        } finally {
            Posix.close(fd);
        }
    }

    @Test
    void pagesThatTheFileHasLostAreAnErrorAndNoFault() throws Exception {
        Path path = Files.write(folder.resolve("cut"), new byte[3 * 4096]);
        int fd = Posix.open(path);
        try (FileMapping mapping = FileMapping.of(fd, 3 * 4096);
                Arena arena = Arena.ofConfined()) {
            MemorySegment target = arena.allocate(3 * 4096);
            assertEquals(3 * 4096, mapping.copy(0, target));
            truncate(path, 4096);
            assertEquals(4096, mapping.copy(0, target));
            assertEquals("process_vm_readv: Bad address (errno 14)", assertThrows(ErrnoException.class,
                    () -> mapping.copy(4096, target.asSlice(0, 10))).getMessage());
        } finally {
            Posix.close(fd);
        }
    }

    private static void truncate(Path path, long bytes) throws Exception {
        try (RandomAccessFile file = new RandomAccessFile(path.toFile(), "rw")) {
            file.setLength(bytes);
        }
    }
}
