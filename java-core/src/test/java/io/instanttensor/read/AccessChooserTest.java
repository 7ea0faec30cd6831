package io.instanttensor.read;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.instanttensor.file.CheckpointFile;
import io.instanttensor.file.FileException;
import io.instanttensor.plan.Chunk;
import io.instanttensor.plan.Segment;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class AccessChooserTest {
    private static final int BYTES = 1 << 20;
    private static final String NO_GPU =
            "CUFILE: it reads to GPUs, and this load goes to the host";

    private Path folder;

    @AfterEach
    void deleteFolder() throws IOException {
        TestFolders.delete(folder);
    }

    @Test
    void fileInMemoryIsReadThroughThePageCacheWhichItIs() throws IOException {
        folder = TestFolders.inMemory();
        assertEquals(new FileAccess(
                FileAccess.Mode.BUFFERED, null, "the file system lies in memory", List.of(), 1, true),
                choose(List.of()));
    }

    @Test
    void cachedFileIsReadFromThePageCacheAsFarAsItIsStillThere() throws IOException {
        folder = TestFolders.direct();
        FileAccess access = withMethod(choose(List.of()), 100);
        assertEquals(new FileAccess(
                FileAccess.Mode.MIXED, null, "100 % of it in the page cache at opening (cachestat)", List.of(),
                access.alignmentBytes(), true),
                access);
    }

    @Test
    void fileThatIsEvictedAfterItsOpeningIsReadPastThePageCache() throws IOException {
        folder = TestFolders.direct();
        try (CheckpointFile file = file(); ReadMethods methods = new ReadMethods(); Arena arena = Arena.ofConfined()) {
            ChunkReader reader = new ChunkReader(file, AccessChooser.choose(file, List.of()));
            PageCache.evict(file.path(), file.descriptor());
            MemorySegment buffer = arena.allocate(BYTES + 4096, 4096);
            Chunk all = new Chunk(0, 0, 0, BYTES, 0, List.of(new Segment(0, 0, BYTES)));
            assertEquals(new PageCacheProbe.Part(0, BYTES), reader.missing(all));
            reader.read(all, buffer, methods);
            assertEquals(new PageCacheProbe.Part(0, BYTES), reader.missing(all), "the page cache has stayed empty");
            assertArrayEquals(Files.readAllBytes(file.path()), buffer.asSlice(0, BYTES).toArray(JAVA_BYTE));
        }
    }

    /// A chunk that starts and ends inside of a page.
    @ParameterizedTest
    @CsvSource({"0, 5, 327680, 999900", "12, 16, 0, 786432", "3, 10, 196608, 655360"})
    void ofAChunkThatIsPartlyCachedOnlyWhatIsMissingIsReadPastThePageCache(
            int first, int end, int missingFrom, int missingTo) throws IOException {
        folder = TestFolders.direct();
        try (CheckpointFile file = file(); ReadMethods methods = new ReadMethods(); Arena arena = Arena.ofConfined()) {
            ChunkReader reader = new ChunkReader(file, AccessChooser.choose(file, List.of()));
            Chunk chunk = new Chunk(0, 0, 100, 999_800, 100, List.of(new Segment(0, 0, 999_800)));
            boolean hole = missingFrom == 196_608;
            PageCache.evict(file.path(), file.descriptor());
            if (hole) {
                fill(file, 0, first);
                fill(file, end, 16);
            } else {
                fill(file, first, end);
            }
            PageCacheProbe.Part missing = new PageCacheProbe.Part(missingFrom, missingTo);
            assertEquals(missing, reader.missing(chunk));
            MemorySegment buffer = arena.allocate(BYTES + 4096, 4096);
            reader.read(chunk, buffer, methods);
            assertEquals(missing, reader.missing(chunk), "the page cache has stayed as it was");
            assertArrayEquals(Arrays.copyOfRange(Files.readAllBytes(file.path()), 100, 999_900),
                    buffer.asSlice(100, 999_800).toArray(JAVA_BYTE));
        }
    }

    @Test
    void fileThatIsNotCachedIsReadPastThePageCache() throws IOException {
        folder = TestFolders.direct();
        try (CheckpointFile file = file()) {
            PageCache.evict(file.path(), file.descriptor());
            FileAccess access = withMethod(AccessChooser.choose(file, List.of()), 0);
            assertEquals(new FileAccess(FileAccess.Mode.DIRECT, null, "0 % of it in the page cache at opening (cachestat)",
                    List.of(), access.alignmentBytes(), false), access);
            assertTrue(access.alignmentBytes() >= 512, access.toString());
        }
    }

    @Test
    void whatIsCachedOfAFileIsReadThroughThePageCacheAndTheRestPastIt() throws Exception {
        folder = TestFolders.direct();
        try (CheckpointFile file = file(); ReadMethods methods = new ReadMethods(); Arena arena = Arena.ofConfined()) {
            int half = BYTES / 2 & -4096;
            PageCache.evict(file.path(), file.descriptor(), half);
            FileAccess access = AccessChooser.choose(file, List.of());
            assertEquals(FileAccess.Mode.MIXED, access.mode(), access.reason());
            assertTrue(PageCacheProbe.holds(file, 0, half));
            assertFalse(PageCacheProbe.holds(file, half - 1, 2));

            MemorySegment buffer = arena.allocate(BYTES + 2 * 4096, 4096);
            ChunkReader reader = new ChunkReader(file, access);
            for (int offset : new int[] {0, half}) {
                int bytes = offset == 0 ? half : BYTES - half;
                reader.read(new Chunk(0, 0, offset, bytes, offset, List.of(new Segment(0, 0, bytes))), buffer, methods);
            }
            assertArrayEquals(Files.readAllBytes(file.path()), buffer.asSlice(0, BYTES).toArray(JAVA_BYTE));
        }
    }

    @ParameterizedTest
    @CsvSource({"AIO_BUFFERED, pread", "URING_BUFFERED, io_uring", "MMAP, mmap"})
    void bufferedReadsAreHadForTheAsking(Backend backend, String call) throws IOException {
        assumeUsable(backend);
        folder = TestFolders.inMemory();
        assertEquals(new FileAccess(FileAccess.Mode.BUFFERED, backend,
                backend + " was asked for: " + call + " through the page cache", List.of(), 1, true),
                choose(List.of(backend)));
    }

    @ParameterizedTest
    @CsvSource({"AIO, pread", "URING, io_uring"})
    void directReadsAreHadForTheAskingThoughTheFileIsCached(Backend backend, String call) throws IOException {
        assumeUsable(backend);
        folder = TestFolders.direct();
        FileAccess access = choose(List.of(backend));
        assertEquals(new FileAccess(FileAccess.Mode.DIRECT, backend,
                backend + " was asked for: " + call + " past the page cache", List.of(), access.alignmentBytes(),
                false), access);
    }

    @Test
    void candidatesThatCannotServeArePassedOverWithTheReason() throws IOException {
        folder = TestFolders.inMemory();
        assertEquals(new FileAccess(FileAccess.Mode.BUFFERED, Backend.MMAP,
                "MMAP was asked for: mmap through the page cache",
                List.of(NO_GPU, "AIO: the file system lies in memory"), 1, true),
                choose(List.of(Backend.CUFILE, Backend.AIO, Backend.MMAP)));
    }

    @Test
    void firstCandidateThatCanServeIsTaken() throws IOException {
        folder = TestFolders.direct();
        FileAccess access = choose(List.of(Backend.CUFILE, Backend.AIO, Backend.MMAP));
        assertEquals(Backend.AIO, access.backend());
        assertEquals(List.of(NO_GPU), access.passedOver());
    }

    @Test
    void noCandidateLeftIsAnErrorThatListsTheReasons() throws IOException {
        folder = TestFolders.inMemory();
        assertEquals(folder.resolve("model") + ": none of the backends asked for can read it: " + NO_GPU
                + "; AIO: the file system lies in memory",
                assertThrows(NoBackendException.class, () -> choose(List.of(Backend.CUFILE, Backend.AIO)))
                        .getMessage());
    }

    private static void assumeUsable(Backend backend) {
        if (backend.method() == ReadMethod.IO_URING) {
            assumeTrue(IoUringProbe.refusal().isEmpty(), IoUringProbe::refusal);
        }
    }

    /// Reads 64 KiB pieces of it into the page cache, and no more.
    private static void fill(CheckpointFile file, int first, int end) throws FileException {
        PageCache.dontReadAhead(file.descriptor());
        try (Arena arena = Arena.ofConfined()) {
            file.readFully(arena.allocate(end - first << 16), (long) first << 16);
        }
    }

    private FileAccess choose(List<Backend> candidates) throws FileException {
        try (CheckpointFile file = file()) {
            return AccessChooser.choose(file, candidates, true);
        }
    }

    private CheckpointFile file() throws FileException {
        Path path = folder.resolve("model");
        if (!Files.exists(path)) {
            TestFolders.fill(path, BYTES);
        }
        return CheckpointFile.open(path);
    }

    /// Before Linux 6.5 another call answers; all else must be the same.
    private static FileAccess withMethod(FileAccess access, int percent) {
        assertTrue(access.reason().startsWith(percent + " % of it in the page cache at opening ("), access.reason());
        return new FileAccess(access.mode(), access.backend(),
                percent + " % of it in the page cache at opening (cachestat)", access.passedOver(),
                access.alignmentBytes(), access.inMemory());
    }
}
