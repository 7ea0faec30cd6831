package io.instanttensor.read;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.instanttensor.file.CheckpointFile;
import io.instanttensor.file.FileException;
import io.instanttensor.plan.Chunk;
import io.instanttensor.plan.Segment;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/// Reads that come short, by a method that brings what it likes; real ones are the [ReadContract]'s.
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
    void whatDirectReadsDoNotBringIsReadThroughThePageCache() throws IOException {
        List<Long> offsets = new ArrayList<>();
        // Twice less than a block, from the same place: by that way there is no more.
        assertArrayEquals(Arrays.copyOfRange(content, 5_000, 35_000), readBy(offsets, 5_000, 30_000, 4096, 100, 100));
        assertEquals(List.of(4096L, 8192L, 8192L), offsets);
    }

    @Test
    void bufferedReadThatBringsNothingThoughTheFileGoesOnSaysSo() throws IOException {
        try (CheckpointFile file = CheckpointFile.open(path)) {
            ChunkReader reader = new ChunkReader(file, AccessChooser.choose(file, List.of(Backend.AIO_BUFFERED)));
            FewBytes reads = new FewBytes(content, new ArrayList<>(), 100, 0);
            assertEquals(path + ": read 100 of 30,000 bytes at 5,000: no more came, though the file has 100,003 bytes "
                    + "(it had 100,003 bytes when it was opened)",
                    assertThrows(FileException.class, () -> read(reader, reads, 5_000, 30_000)).getMessage());
        }
    }

    @Test
    void readThatMakesNoProgressIsTheEndWhereTheFileEnds() {
        List<Long> offsets = new ArrayList<>();
        assertEquals(path + ": read 3,192 of 30,000 bytes at 5,000: the file ends there (it had 100,003 bytes when "
                + "it was opened)",
                assertThrows(FileException.class, () -> readOfCutFile(offsets)).getMessage());
        assertEquals(List.of(4096L, 8192L), offsets);
    }

    private static byte[] read(ChunkReader reader, PositionalReads reads, int offset, int bytes)
            throws FileException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment buffer = arena.allocate(bytes + 2 * 8192, 4096);
            buffer.fill((byte) 1);
            // As far from a whole unit as in the file.
            long bufferOffset = 4096 + offset % 4096;
            Chunk chunk = new Chunk(0, 0, offset, bytes, bufferOffset, List.of(new Segment(0, 0, bytes)));
            reader.read(chunk, buffer, reads, reader.file(), reader.missing(chunk));
            assertEquals(1, buffer.get(ValueLayout.JAVA_BYTE, 4095), "nothing is written before the first unit");
            assertEquals(1, buffer.get(ValueLayout.JAVA_BYTE, (bufferOffset + bytes + 4095) / 4096 * 4096),
                    "nor behind the last");
            return buffer.asSlice(bufferOffset, bytes).toArray(ValueLayout.JAVA_BYTE);
        }
    }

    /// Direct reads that bring at most so many bytes each, in turn.
    private byte[] readBy(List<Long> offsets, int offset, int bytes, int... limits) throws IOException {
        try (CheckpointFile file = CheckpointFile.open(path)) {
            FileAccess access = AccessChooser.choose(file, List.of(Backend.AIO));
            assertEquals(4096, access.alignmentBytes());
            return read(new ChunkReader(file, access), new FewBytes(content, offsets, limits), offset, bytes);
        }
    }

    private void readOfCutFile(List<Long> offsets) throws IOException {
        try (CheckpointFile file = CheckpointFile.open(path);
                FileChannel channel = FileChannel.open(path, StandardOpenOption.WRITE)) {
            ChunkReader reader = new ChunkReader(file, AccessChooser.choose(file, List.of(Backend.AIO)));
            channel.truncate(8192);
            read(reader, new FewBytes(content, offsets, 4096, 0), 5_000, 30_000);
        }
    }

    private record FewBytes(byte[] content, List<Long> offsets, int... limits) implements PositionalReads {
        @Override
        public long readOnce(CheckpointFile file, MemorySegment target, long offset) {
            int turn = offsets.size();
            offsets.add(offset);
            long allowed = Math.min(limits[turn], target.byteSize());
            MemorySegment.copy(content, Math.toIntExact(offset), target, ValueLayout.JAVA_BYTE, 0,
                    Math.toIntExact(allowed));
            return allowed;
        }

        @Override
        public void close() {}
    }
}
