package io.instanttensor.read;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.instanttensor.file.CheckpointFile;
import io.instanttensor.file.FileException;
import io.instanttensor.posix.Posix;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

class FileProbeTest {
    private static final int BYTES = 1 << 20;

    private Path folder;

    @AfterEach
    void deleteFolder() throws IOException {
        TestFolders.delete(folder);
    }

    @Test
    void readPastThePageCacheIsReallyMadeAndCachesNothing() throws Exception {
        folder = TestFolders.direct();
        Path path = folder.resolve("model");
        TestFolders.fill(path, BYTES);
        assertEquals(1, FileProbe.of(path).cachedFraction());
        try (CheckpointFile file = CheckpointFile.open(path)) {
            PageCache.evict(path, file.descriptor());
            // As a load does: the header, and what the kernel reads along with it.
            try (Arena arena = Arena.ofConfined()) {
                file.readFully(arena.allocate(8), 0);
            }
            double ofHeader = PageCacheProbe.probe(file).cachedFraction();
            assertTrue(ofHeader > 0 && ofHeader < 1, () -> "the header cached " + ofHeader);
            FileProbe probe = FileProbe.of(path);
            assertEquals("", probe.directRefusal());
            assertEquals(DirectSupport.of(file).alignmentBytes(), probe.directBytes());
            assertEquals(ofHeader, probe.cachedFraction());
            assertEquals(ofHeader, FileProbe.of(path).cachedFraction());
            assertEquals(Posix.stat(file.descriptor()), probe.stat());
        }
    }

    @Test
    void shortFileIsReadAsFarAsItGoes() throws IOException {
        folder = TestFolders.direct();
        Path path = folder.resolve("short");
        TestFolders.fill(path, 100);
        assertEquals(100, FileProbe.of(path).directBytes());
    }

    @Test
    void fileInMemoryTakesNone() throws IOException {
        folder = TestFolders.inMemory();
        Path path = folder.resolve("model");
        TestFolders.fill(path, BYTES);
        FileProbe probe = FileProbe.of(path);
        assertEquals("the file system lies in memory", probe.directRefusal());
        assertEquals(0, probe.directBytes());
    }

    @Test
    void missingFileIsTold() throws IOException {
        folder = TestFolders.direct();
        assertEquals(folder.resolve("none") + ": open: No such file or directory (errno 2)",
                assertThrows(FileException.class, () -> FileProbe.of(folder.resolve("none"))).getMessage());
    }
}
