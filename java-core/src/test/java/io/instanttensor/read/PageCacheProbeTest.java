package io.instanttensor.read;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.instanttensor.file.CheckpointFile;
import io.instanttensor.posix.ErrnoException;
import io.instanttensor.posix.Posix;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class PageCacheProbeTest {
    private static final int BYTES = 1 << 20;

    private Path folder;
    private Path path;

    @BeforeEach
    void createFile() throws IOException {
        folder = TestFolders.direct();
        path = folder.resolve("model");
        TestFolders.fill(path, BYTES);
    }

    @AfterEach
    void deleteFolder() throws IOException {
        TestFolders.delete(folder);
    }

    @Test
    void writtenFileIsAllThere() throws IOException {
        try (CheckpointFile file = CheckpointFile.open(path)) {
            assertEquals(1, PageCacheProbe.probe(file).cachedFraction());
        }
    }

    @Test
    void evictedFileIsNot() throws IOException {
        try (CheckpointFile file = CheckpointFile.open(path)) {
            PageCache.evict(path, file.descriptor());
            assertEquals(0, PageCacheProbe.probe(file).cachedFraction());
        }
    }

    @Test
    void pagesThatWereReadAreCounted() throws IOException, ErrnoException {
        try (CheckpointFile file = CheckpointFile.open(path)) {
            assumeCachestat(file);
            PageCache.evict(path, file.descriptor());
            try (Arena arena = Arena.ofConfined()) {
                file.readFully(arena.allocate(BYTES / 2), 0);
            }
            long pages = Posix.cachedPages(file.descriptor(), 0, BYTES);
            assertEquals(new PageCacheProbe.Finding(pages * 4096.0 / BYTES, "cachestat", true),
                    PageCacheProbe.probe(file));
        }
    }

    @Test
    void samplesOfAWrittenFileAllHit() throws IOException, ErrnoException {
        try (CheckpointFile file = CheckpointFile.open(path)) {
            assertEquals(new PageCacheProbe.Finding(1, "mincore", true), PageCacheProbe.sampleMapping(file));
            assertEquals(new PageCacheProbe.Finding(1, "RWF_NOWAIT", false), PageCacheProbe.sampleReads(file));
        }
    }

    /// Of the reads that must not wait this cannot be asked: some virtual disks have answered by then.
    @Test
    void samplesOfAnEvictedMappingMiss() throws IOException, ErrnoException {
        try (CheckpointFile file = CheckpointFile.open(path)) {
            PageCache.evict(path, file.descriptor());
            assertEquals(new PageCacheProbe.Finding(0, "mincore", true), PageCacheProbe.sampleMapping(file));
        }
    }

    @Test
    void emptyFileCountsAsCached() throws IOException {
        Path empty = folder.resolve("empty");
        TestFolders.fill(empty, 0);
        try (CheckpointFile file = CheckpointFile.open(empty)) {
            assumeCachestat(file);
            assertEquals(new PageCacheProbe.Finding(1, "cachestat", true), PageCacheProbe.probe(file));
        }
    }

    private static void assumeCachestat(CheckpointFile file) {
        Assumptions.assumeTrue(PageCacheProbe.probe(file).method().equals("cachestat"),
                "the kernel has no cachestat");
    }
}
