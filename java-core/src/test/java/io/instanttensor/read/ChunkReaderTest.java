package io.instanttensor.read;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.instanttensor.file.CheckpointFile;
import io.instanttensor.file.FileException;
import io.instanttensor.plan.Chunk;
import io.instanttensor.plan.Segment;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/// The same file, read past the page cache and through it.
class ChunkReaderTest {
    /// Ends in the middle of a block.
    private static final int FILE_BYTES = 100_003;

    private Path folder;
    private Path path;
    private byte[] content;

    @BeforeEach
    void createFile() throws IOException {
        folder = TestFolders.direct();
        path = folder.resolve("model");
        content = TestFolders.fill(path, FILE_BYTES);
    }

    @AfterEach
    void deleteFolder() throws IOException {
        TestFolders.delete(folder);
    }

    @ParameterizedTest
    @CsvSource({
        "0, 4096", "0, 1", "4096, 8192", "1, 1", "4095, 2", "511, 4097", "8191, 65536", "98304, 1699", "98303, 1700",
        "100002, 1", "0, 100003", "99999, 4"})
    void bothWaysBringTheSameBytes(int offset, int bytes) throws IOException {
        byte[] expected = Arrays.copyOfRange(content, offset, offset + bytes);
        assertArrayEquals(expected, read(Backend.AIO, offset, bytes));
        assertArrayEquals(expected, read(Backend.AIO_BUFFERED, offset, bytes));
    }

    @ParameterizedTest
    @ValueSource(strings = {"AIO", "AIO_BUFFERED"})
    void fileThatWasTruncatedUnderWaySaysWhatIsMissing(Backend backend) throws IOException {
        try (CheckpointFile file = CheckpointFile.open(path)) {
            ChunkReader reader = new ChunkReader(file, AccessChooser.choose(file, List.of(backend)));
            truncate(50_000);
            assertEquals(path + ": read 40,000 of 60,000 bytes at 10,000: the file ends there (it had 100,003 bytes "
                    + "when it was opened)", failure(reader, 10_000, 60_000));
            assertEquals(path + ": read 0 of 10 bytes at 80,001: the file ends there (it had 100,003 bytes when it "
                    + "was opened)", failure(reader, 80_001, 10));
            truncate(0);
            assertEquals(path + ": read 0 of 10 bytes at 7: the file ends there (it had 100,003 bytes when it was "
                    + "opened)", failure(reader, 7, 10));
        }
    }

    @Test
    void shortReadIsRetriedAtTheNextUnreadByte() throws IOException {
        List<Long> offsets = new ArrayList<>();
        // Brings whole blocks, two at a time, and once not even one.
        byte[] got = readBy(offsets, 5_000, 30_000, 8192, 8192, 0x700, 8192, 16384, 8192);
        assertArrayEquals(Arrays.copyOfRange(content, 5_000, 35_000), got);
        // 0x700 bytes are less than a block: the next read starts where the last whole block ended.
        assertEquals(List.of(4096L, 12288L, 20480L, 20480L, 28672L), offsets);
    }

    @Test
    void readThatMakesNoProgressIsTheEnd() {
        List<Long> offsets = new ArrayList<>();
        assertEquals(path + ": read 3,192 of 30,000 bytes at 5,000: the file ends there (it had 100,003 bytes when "
                + "it was opened)",
                assertThrows(FileException.class, () -> readBy(offsets, 5_000, 30_000, 4096, 0)).getMessage());
        assertEquals(List.of(4096L, 8192L), offsets);
    }

    @Test
    void segmentsGoStraightToTheirPlaceInTheSlab() throws IOException {
        try (CheckpointFile file = CheckpointFile.open(path);
                Arena arena = Arena.ofConfined()) {
            MemorySegment slab = arena.allocate(100);
            slab.fill((byte) 1);
            new ChunkReader(file, AccessChooser.choose(file, List.of(Backend.MMAP))).readInto(
                    new Chunk(0, 0, 1_000, 60, 0, List.of(new Segment(0, 50, 10), new Segment(40, 7, 20))), slab);
            byte[] expected = new byte[100];
            Arrays.fill(expected, (byte) 1);
            System.arraycopy(content, 1_000, expected, 50, 10);
            System.arraycopy(content, 1_040, expected, 7, 20);
            assertArrayEquals(expected, slab.toArray(ValueLayout.JAVA_BYTE));
        }
    }

    @Test
    void segmentBehindTheEndOfTheFileIsNamed() throws IOException {
        try (CheckpointFile file = CheckpointFile.open(path);
                Arena arena = Arena.ofConfined()) {
            ChunkReader reader = new ChunkReader(file, AccessChooser.choose(file, List.of(Backend.MMAP)));
            truncate(1_045);
            Chunk chunk = new Chunk(0, 0, 1_000, 60, 0, List.of(new Segment(0, 50, 10), new Segment(40, 7, 20)));
            assertEquals(path + ": read 5 of 20 bytes at 1,040: the file ends there (it had 100,003 bytes when it "
                    + "was opened)",
                    assertThrows(FileException.class, () -> reader.readInto(chunk, arena.allocate(100))).getMessage());
        }
    }

    private byte[] read(Backend backend, int offset, int bytes) throws IOException {
        try (CheckpointFile file = CheckpointFile.open(path)) {
            return read(new ChunkReader(file, AccessChooser.choose(file, List.of(backend))), offset, bytes);
        }
    }

    private static byte[] read(ChunkReader reader, int offset, int bytes) throws FileException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment buffer = arena.allocate(bytes + 2 * 8192, 4096);
            buffer.fill((byte) 1);
            // As far from a whole unit as in the file.
            long bufferOffset = 4096 + offset % 4096;
            Chunk chunk = new Chunk(0, 0, offset, bytes, bufferOffset, List.of(new Segment(0, 0, bytes)));
            reader.read(chunk, buffer);
            assertEquals(1, buffer.get(ValueLayout.JAVA_BYTE, 4095), "nothing is written before the first unit");
            assertEquals(1, buffer.get(ValueLayout.JAVA_BYTE, (bufferOffset + bytes + 4095) / 4096 * 4096),
                    "nor behind the last");
            return buffer.asSlice(bufferOffset, bytes).toArray(ValueLayout.JAVA_BYTE);
        }
    }

    private static String failure(ChunkReader reader, int offset, int bytes) {
        return assertThrows(FileException.class, () -> read(reader, offset, bytes)).getMessage();
    }

    /// Direct reads that bring at most so many bytes each, in turn.
    private byte[] readBy(List<Long> offsets, int offset, int bytes, int... limits) throws IOException {
        try (CheckpointFile file = CheckpointFile.open(path)) {
            FileAccess access = AccessChooser.choose(file, List.of(Backend.AIO));
            assertEquals(4096, access.alignmentBytes());
            ChunkReader reader = new ChunkReader(file, access, (target, at) -> {
                int turn = offsets.size();
                offsets.add(at);
                long allowed = Math.min(limits[turn], target.byteSize());
                MemorySegment.copy(content, Math.toIntExact(at), target, ValueLayout.JAVA_BYTE, 0,
                        Math.toIntExact(allowed));
                return allowed;
            });
            return read(reader, offset, bytes);
        }
    }

    private void truncate(long bytes) throws IOException {
        try (RandomAccessFile file = new RandomAccessFile(path.toFile(), "rw")) {
            file.setLength(bytes);
        }
    }
}
