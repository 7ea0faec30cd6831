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
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;

/// And what those through the page cache promise beyond that: any address will do.
abstract class BufferedReadContract extends ReadContract {
    @Test
    void segmentsGoStraightToTheirPlaceInTheSlab() throws IOException {
        try (CheckpointFile file = CheckpointFile.open(path);
                ReadMethods methods = new ReadMethods();
                Arena arena = Arena.ofConfined()) {
            MemorySegment slab = arena.allocate(100);
            slab.fill((byte) 1);
            new ChunkReader(file, access(file)).readInto(
                    new Chunk(0, 0, 1_000, 60, 0, List.of(new Segment(0, 50, 10), new Segment(40, 7, 20))), slab,
                    methods);
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
                ReadMethods methods = new ReadMethods();
                Arena arena = Arena.ofConfined()) {
            ChunkReader reader = new ChunkReader(file, access(file));
            truncate(4_096);
            Chunk chunk = new Chunk(0, 0, 4_050, 60, 0, List.of(new Segment(0, 50, 10), new Segment(40, 7, 20)));
            assertEquals(path + ": read 6 of 20 bytes at 4,090: the file ends there (it had 100,003 bytes when it was "
                    + "opened)",
                    assertThrows(FileException.class, () -> reader.readInto(chunk, arena.allocate(100), methods))
                            .getMessage());
        }
    }

    @Test
    void fileInMemoryIsReadLikeAnyOther() throws IOException {
        deleteFolder();
        folder = TestFolders.inMemory();
        path = folder.resolve("model");
        content = TestFolders.fill(path, 3 << 20);
        assertArrayEquals(content, read(0, content.length));
    }
}
