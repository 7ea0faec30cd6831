package io.instanttensor.read;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeFalse;

import io.instanttensor.device.ChildJvm;
import io.instanttensor.device.Device;
import io.instanttensor.device.DeviceMemory;
import io.instanttensor.device.StubCuda;
import io.instanttensor.device.StubCufile;
import io.instanttensor.device.cuda.CudaDevice;
import io.instanttensor.file.CheckpointFile;
import io.instanttensor.file.FileException;
import io.instanttensor.plan.Chunk;
import io.instanttensor.plan.Segment;
import io.instanttensor.posix.Errno;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/// What the [ReadContract] promises, of reads to a device: the stub's, whose memory is the host's.
@Timeout(60)
class CufileTest {
    private static final int FILE_BYTES = 100_003;
    private static final int SLAB_BYTES = 120_000;
    private static final byte POISON = (byte) 0xCD;

    private Path folder;
    private Path path;
    private byte[] content;
    private Device device;
    private Device.Scope scope;
    private DeviceMemory slab;

    @BeforeAll
    static void loadStubs() {
        StubCuda.load();
        StubCufile.load();
    }

    @BeforeEach
    void open() throws IOException {
        folder = TestFolders.direct();
        path = folder.resolve("model");
        content = TestFolders.fill(path, FILE_BYTES);
        StubCuda.reset();
        StubCufile.reset();
        device = CudaDevice.open(0);
        scope = device.enter();
        slab = device.allocate(SLAB_BYTES);
    }

    @AfterEach
    void close() throws IOException {
        slab.close();
        scope.close();
        device.close();
        TestFolders.delete(folder);
        assertEquals(0, StubCufile.live());
        StubCuda.assertNothingIsLive("after the test");
        StubCufile.reset();
    }

    @ParameterizedTest
    @CsvSource({
        "0, 4096", "0, 1", "4096, 8192", "1, 1", "4095, 2", "511, 4097", "8191, 65536", "98304, 1699", "98303, 1700",
        "100002, 1", "0, 100003", "99999, 4"})
    void everyRangeBringsItsBytesAndNoMore(int offset, int bytes) throws IOException {
        try (CheckpointFile file = CheckpointFile.open(path)) {
            reader(file).readToDevice(chunk(offset, bytes), slab.address());
        }
        byte[] expected = new byte[SLAB_BYTES];
        Arrays.fill(expected, POISON);
        System.arraycopy(content, offset, expected, 77, bytes);
        assertArrayEquals(expected, slabBytes());
    }

    @Test
    void readsThatComeShortAreContinued() throws IOException {
        StubCufile.shortReads(10_000);
        try (CheckpointFile file = CheckpointFile.open(path)) {
            reader(file).readToDevice(chunk(3, 100_000), slab.address());
        }
        assertEquals(10, StubCufile.reads());
        assertArrayEquals(Arrays.copyOfRange(content, 3, 100_003), Arrays.copyOfRange(slabBytes(), 77, 100_077));
    }

    @Test
    void segmentsGoToTheirPlaces() throws IOException {
        try (CheckpointFile file = CheckpointFile.open(path)) {
            reader(file).readToDevice(
                    new Chunk(0, 0, 1_000, 60, 0, List.of(new Segment(0, 50, 10), new Segment(40, 7, 20))),
                    slab.address());
        }
        byte[] expected = new byte[100];
        Arrays.fill(expected, POISON);
        System.arraycopy(content, 1_000, expected, 50, 10);
        System.arraycopy(content, 1_040, expected, 7, 20);
        assertArrayEquals(expected, Arrays.copyOf(slabBytes(), 100));
    }

    @Test
    void fileThatWasTruncatedUnderWaySaysWhatIsMissing() throws IOException {
        try (CheckpointFile file = CheckpointFile.open(path)) {
            ChunkReader reader = reader(file);
            truncate(50_000);
            assertEquals(path + ": read 40,000 of 60,000 bytes at 10,000: the file ends there (it had 100,003 bytes "
                    + "when it was opened)", failure(reader, 10_000, 60_000).getMessage());
            assertEquals(path + ": read 10 of 10 bytes at 7: the file has 50,000 bytes (it had 100,003 bytes when it "
                    + "was opened)", failure(reader, 7, 10).getMessage());
        }
    }

    @Test
    void errorsOfTheSystemAndOfLibcufileNameFileAndRange() throws IOException {
        try (CheckpointFile file = CheckpointFile.open(path)) {
            ChunkReader reader = reader(file);
            StubCufile.failRead(1, Errno.EIO);
            FileException failed = failure(reader, 4_000, 100);
            assertEquals(path + ": expected to read 100 bytes at 4,000, read none: cuFileRead: Input/output error "
                    + "(errno 5)", failed.getMessage());
            assertEquals(Errno.EIO, failed.errno());
            StubCufile.failRead(1, -5011);
            failed = failure(reader, 4_000, 100);
            assertEquals(path + ": expected to read 100 bytes at 4,000, read none: cuFileRead: error 5011 of libcufile",
                    failed.getMessage());
            assertEquals(0, failed.errno());
        }
    }

    @Test
    void fileThatLibcufileWillNotHaveIsLeftToTheNextCandidate() throws IOException {
        StubCufile.failRegister(5018);
        try (CheckpointFile file = CheckpointFile.open(path);
                ReadMethods methods = new ReadMethods()) {
            FileAccess access = AccessChooser.choose(file, List.of(Backend.CUFILE, Backend.AIO_BUFFERED));
            assertEquals(new FileAccess(FileAccess.Mode.BUFFERED, Backend.AIO_BUFFERED,
                    "AIO_BUFFERED was asked for: pread through the page cache",
                    List.of("CUFILE: cuFileHandleRegister: error 5018 of libcufile"), 1,
                    access.inMemory()), access);
            // And its descriptor is as before: odd offsets will do.
            assertArrayEquals(Arrays.copyOfRange(content, 7, 107),
                    ReadContract.read(new ChunkReader(file, access), methods, 7, 100));
        }
    }

    @Test
    void fileIsKnownToLibcufileForAsLongAsItIsOpen() throws IOException {
        try (CheckpointFile file = CheckpointFile.open(path)) {
            FileAccess access = AccessChooser.choose(file, List.of(Backend.CUFILE));
            assertTrue(access.direct());
            assertEquals("CUFILE was asked for: libcufile, or pread to the host, past the page cache",
                    access.reason());
            assertEquals(1, StubCufile.live());
            AccessChooser.choose(file, List.of(Backend.CUFILE));
            assertEquals(1, StubCufile.live());
        }
        assertEquals(0, StubCufile.live());
    }

    @Test
    void whatGoesToTheHostIsReadByPread() throws IOException {
        try (CheckpointFile file = CheckpointFile.open(path);
                ReadMethods methods = new ReadMethods()) {
            assertArrayEquals(Arrays.copyOfRange(content, 7, 50_007),
                    ReadContract.read(reader(file), methods, 7, 50_000));
            assertEquals(0, StubCufile.reads());
        }
    }

    @Test
    void fileInMemoryTakesNone() throws IOException {
        Path inMemory = TestFolders.inMemory();
        try {
            Path there = inMemory.resolve("model");
            TestFolders.fill(there, 100);
            try (CheckpointFile file = CheckpointFile.open(there)) {
                assertEquals(there + ": none of the backends asked for can read it: CUFILE: the file system lies in "
                        + "memory", assertThrows(NoBackendException.class,
                                () -> AccessChooser.choose(file, List.of(Backend.CUFILE))).getMessage());
            }
        } finally {
            TestFolders.delete(inMemory);
        }
    }

    @Test
    void processWithoutTheLibrarySaysSo() throws Exception {
        assumeFalse(present("libcufile.so.0"), "this machine has a libcufile");
        String told = ChildJvm.run(CuFileRefusal.class, List.of(), "driver");
        assertTrue(told.startsWith("libcufile.so.0 could not be loaded: "), told);
    }

    @Test
    void processWithoutTheDriverSaysSo() throws Exception {
        assumeFalse(present("libcuda.so.1"), "this machine has a driver");
        String told = ChildJvm.run(CuFileRefusal.class, List.of(), "");
        assertTrue(told.startsWith("libcuda.so.1 could not be loaded: "), told);
    }

    /// Whether the loader's cache has it: in this process the stub is loaded.
    private static boolean present(String library) throws IOException {
        Process cache = new ProcessBuilder("ldconfig", "-p").redirectErrorStream(true).start();
        return new String(cache.getInputStream().readAllBytes(), StandardCharsets.UTF_8).contains(library);
    }

    @ParameterizedTest
    @ValueSource(ints = {5001, 5007})
    void driverThatDoesNotOpenIsTold(int error) throws Exception {
        String library = StubCuda.property(StubCufile.LIBRARY, "the stub libcufile.so.0");
        assertEquals("cuFileDriverOpen: error " + error + " of libcufile (error 999 of CUDA)\n",
                ChildJvm.run(CuFileRefusal.class, List.of(), library, String.valueOf(error)));
        assertEquals("\n", ChildJvm.run(CuFileRefusal.class, List.of(), library, "0"));
    }

    private ChunkReader reader(CheckpointFile file) throws FileException {
        return new ChunkReader(file, AccessChooser.choose(file, List.of(Backend.CUFILE)));
    }

    private static Chunk chunk(int offset, int bytes) {
        return new Chunk(0, 0, offset, bytes, 0, List.of(new Segment(0, 77, bytes)));
    }

    private FileException failure(ChunkReader reader, int offset, int bytes) {
        return assertThrows(FileException.class, () -> reader.readToDevice(chunk(offset, bytes), slab.address()));
    }

    private byte[] slabBytes() {
        return MemorySegment.ofAddress(slab.address()).reinterpret(SLAB_BYTES).toArray(ValueLayout.JAVA_BYTE);
    }

    private void truncate(long bytes) throws IOException {
        try (RandomAccessFile file = new RandomAccessFile(path.toFile(), "rw")) {
            file.setLength(bytes);
        }
    }
}
