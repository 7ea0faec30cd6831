package io.instanttensor.read;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.instanttensor.file.CheckpointFile;
import io.instanttensor.file.FileException;
import io.instanttensor.plan.Chunk;
import io.instanttensor.plan.PlanLimits;
import io.instanttensor.plan.Segment;
import io.instanttensor.posix.Errno;
import io.instanttensor.posix.ErrnoException;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// What every way of reading promises, past the page cache or through it.
@Timeout(60)
abstract class ReadContract {
    /// Ends in the middle of a block.
    private static final int FILE_BYTES = 100_003;
    /// Neither the piece of a ring nor all of its pieces divide it.
    private static final int LARGE_FILE_BYTES = (20 << 20) + 77_777;
    private static final int UNIT_BYTES = Math.toIntExact(PlanLimits.STAGING_UNIT_BYTES);

    Path folder;
    Path path;
    byte[] content;

    abstract Backend backend();

    /// What a message calls it when the kernel refuses.
    abstract String call();

    /// Skips the tests, with a reason, where the machine cannot read so.
    void assumeUsable() {}

    @BeforeEach
    void createFile() throws IOException {
        assumeUsable();
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
    void everyRangeBringsItsBytes(int offset, int bytes) throws IOException {
        assertArrayEquals(Arrays.copyOfRange(content, offset, offset + bytes), read(offset, bytes));
    }

    @Test
    void wholeLargeFileIsReadAsOneChunk() throws IOException {
        content = TestFolders.fill(path, LARGE_FILE_BYTES);
        assertArrayEquals(content, read(0, LARGE_FILE_BYTES));
    }

    @Test
    void filesTakeTurnsWithOneReader() throws IOException {
        Path other = folder.resolve("other");
        byte[] others = TestFolders.fill(other, 2 * FILE_BYTES);
        try (CheckpointFile first = CheckpointFile.open(path);
                CheckpointFile second = CheckpointFile.open(other);
                ReadMethods methods = new ReadMethods()) {
            ChunkReader ofFirst = new ChunkReader(first, access(first));
            ChunkReader ofSecond = new ChunkReader(second, access(second));
            for (int offset = 0; offset < FILE_BYTES - 5_000; offset += 9_999) {
                assertArrayEquals(Arrays.copyOfRange(content, offset, offset + 5_000),
                        read(ofFirst, methods, offset, 5_000));
                assertArrayEquals(Arrays.copyOfRange(others, 2 * offset, 2 * offset + 5_000),
                        read(ofSecond, methods, 2 * offset, 5_000));
            }
        }
    }

    @Test
    void manyReadersReadOneFileAtOnce() throws Exception {
        content = TestFolders.fill(path, LARGE_FILE_BYTES);
        try (CheckpointFile file = CheckpointFile.open(path);
                ExecutorService threads = Executors.newFixedThreadPool(8)) {
            ChunkReader reader = new ChunkReader(file, access(file));
            List<Future<?>> readers = IntStream.range(0, 8)
                    .<Future<?>>mapToObj(number -> threads.submit(() -> {
                        readAtRandom(reader, new Random(number));
                        return null;
                    }))
                    .toList();
            for (Future<?> each : readers) {
                each.get();
            }
        }
    }

    private void readAtRandom(ChunkReader reader, Random random) throws IOException {
        try (ReadMethods methods = new ReadMethods()) {
            for (int i = 0; i < 12; i++) {
                int offset = random.nextInt(LARGE_FILE_BYTES);
                int bytes = 1 + random.nextInt(Math.min(3 << 20, LARGE_FILE_BYTES - offset));
                assertArrayEquals(Arrays.copyOfRange(content, offset, offset + bytes),
                        read(reader, methods, offset, bytes), bytes + " bytes at " + offset);
            }
        }
    }

    @Test
    void fileThatWasTruncatedUnderWaySaysWhatIsMissing() throws IOException {
        try (CheckpointFile file = CheckpointFile.open(path);
                ReadMethods methods = new ReadMethods()) {
            ChunkReader reader = new ChunkReader(file, access(file));
            read(reader, methods, 0, 100_003);
            truncate(50_000);
            assertEquals(path + ": read 40,000 of 60,000 bytes at 10,000: the file ends there (it had 100,003 bytes "
                    + "when it was opened)", failure(reader, methods, 10_000, 60_000).getMessage());
            assertEquals(path + ": read 0 of 10 bytes at 80,001: the file ends there (it had 100,003 bytes when it "
                    + "was opened)", failure(reader, methods, 80_001, 10).getMessage());
            truncate(0);
            assertEquals(path + ": read 0 of 10 bytes at 7: the file ends there (it had 100,003 bytes when it was "
                    + "opened)", failure(reader, methods, 7, 10).getMessage());
        }
    }

    /// The bytes behind its end are zero, and no fault.
    @Test
    void fileThatWasTruncatedInsideAPageIsMissedToo() throws IOException {
        try (CheckpointFile file = CheckpointFile.open(path);
                ReadMethods methods = new ReadMethods()) {
            ChunkReader reader = new ChunkReader(file, access(file));
            read(reader, methods, 0, 100_003);
            truncate(100_000);
            String message = failure(reader, methods, 99_000, 1_003).getMessage();
            assertTrue(List.of(
                    path + ": read 1,000 of 1,003 bytes at 99,000: the file ends there (it had 100,003 bytes when it "
                            + "was opened)",
                    path + ": read 1,000 of 1,003 bytes at 99,000: the file has 100,000 bytes (it had 100,003 bytes "
                            + "when it was opened)").contains(message), message);
        }
    }

    @Test
    void fileThatHasGrownIsNotTakenForTheOneThatWasOpened() throws IOException {
        try (CheckpointFile file = CheckpointFile.open(path);
                ReadMethods methods = new ReadMethods()) {
            ChunkReader reader = new ChunkReader(file, access(file));
            truncate(200_000);
            assertEquals(path + ": read 10 of 10 bytes at 7: the file has 200,000 bytes (it had 100,003 bytes when it "
                    + "was opened)", failure(reader, methods, 7, 10).getMessage());
        }
    }

    /// Truncated again and again while it is read: what comes is right, or an error that names the file.
    @Test
    void fileThatIsCutWhileItIsReadBringsNoWrongByte() throws Exception {
        content = TestFolders.fill(path, 4 << 20);
        for (int round = 0; round < 10; round++) {
            TestFolders.fill(path, 4 << 20);
            try (CheckpointFile file = CheckpointFile.open(path);
                    ReadMethods methods = new ReadMethods()) {
                ChunkReader reader = new ChunkReader(file, access(file));
                int left = 1 + round * 400_000;
                Thread cutter = Thread.ofPlatform().start(() -> truncate(left));
                FileException cut = null;
                while (cut == null) {
                    try {
                        assertArrayEquals(content, read(reader, methods, 0, content.length));
                    } catch (FileException e) {
                        cut = e;
                    }
                }
                cutter.join();
                assertTrue(cut.getMessage().startsWith(path + ": read "), cut.getMessage());
                assertTrue(cut.getMessage().endsWith(" (it had 4,194,304 bytes when it was opened)"),
                        cut.getMessage());
            }
        }
    }

    /// The first page of the process's own memory is nobody's, and its file is a regular one.
    @Test
    void errorOfTheKernelNamesFileRangeAndCall() throws IOException {
        Path memory = Path.of("/proc/self/mem");
        try (CheckpointFile file = CheckpointFile.open(memory);
                ReadMethods methods = new ReadMethods()) {
            FileAccess.Mode mode = backend().direct() ? FileAccess.Mode.DIRECT : FileAccess.Mode.BUFFERED;
            ChunkReader reader = new ChunkReader(
                    file, new FileAccess(mode, backend(), "", List.of(), backend().direct() ? 4096 : 1, false));
            FileException failed = failure(reader, methods, 0, 4096);
            assertEquals(memory + ": expected to read 4,096 bytes at 0, read none: "
                    + new ErrnoException(call(), Errno.EIO).getMessage(), failed.getMessage());
            assertEquals(Errno.EIO, failed.errno());
        }
    }

    @Test
    void whatReadersOpenedIsGivenBack() throws IOException {
        try (CheckpointFile file = CheckpointFile.open(path)) {
            ChunkReader reader = new ChunkReader(file, access(file));
            OpenResources before = OpenResources.now(path);
            for (int i = 0; i < 10; i++) {
                try (ReadMethods methods = new ReadMethods()) {
                    read(reader, methods, 0, FILE_BYTES);
                }
            }
            assertEquals(before, OpenResources.now(path));
        }
    }

    FileAccess access(CheckpointFile file) throws FileException {
        FileAccess access = AccessChooser.choose(file, List.of(backend()));
        assertEquals(backend(), access.backend());
        assertEquals(backend().direct(), access.direct());
        return access;
    }

    byte[] read(int offset, int bytes) throws IOException {
        try (CheckpointFile file = CheckpointFile.open(path);
                ReadMethods methods = new ReadMethods()) {
            return read(new ChunkReader(file, access(file)), methods, offset, bytes);
        }
    }

    static byte[] read(ChunkReader reader, ReadMethods methods, int offset, int bytes) throws FileException {
        try (Arena arena = Arena.ofConfined()) {
            // As far from a whole unit as in the file.
            int bufferOffset = UNIT_BYTES + offset % UNIT_BYTES;
            MemorySegment buffer = arena.allocate(bufferOffset + bytes + 2 * UNIT_BYTES, 4096).fill((byte) 1);
            reader.read(new Chunk(0, 0, offset, bytes, bufferOffset, List.of(new Segment(0, 0, bytes))), buffer,
                    methods);
            int alignment = reader.access().alignmentBytes();
            int first = bufferOffset & -alignment;
            int end = (bufferOffset + bytes + alignment - 1) & -alignment;
            assertEquals(1, buffer.get(ValueLayout.JAVA_BYTE, first - 1), "nothing is written before the first unit");
            assertEquals(1, buffer.get(ValueLayout.JAVA_BYTE, end), "nor behind the last");
            return buffer.asSlice(bufferOffset, bytes).toArray(ValueLayout.JAVA_BYTE);
        }
    }

    static FileException failure(ChunkReader reader, ReadMethods methods, int offset, int bytes) {
        return assertThrows(FileException.class, () -> read(reader, methods, offset, bytes));
    }

    void truncate(long bytes) {
        try (RandomAccessFile file = new RandomAccessFile(path.toFile(), "rw")) {
            file.setLength(bytes);
        } catch (IOException e) {
            throw new AssertionError(e);
        }
    }
}
