package io.instanttensor.read;

import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import io.instanttensor.file.CheckpointFile;
import io.instanttensor.file.FileException;
import io.instanttensor.plan.Chunk;
import io.instanttensor.plan.Segment;
import java.io.RandomAccessFile;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.List;

/// What [MmapTest] runs in a process of its own: gives SIGBUS back to the kernel, and reads a file out of its mapping
/// that is cut short behind the first read.
public final class CutMapping {
    private static final int SIGBUS = 7;
    private static final long SIG_DFL = 0;
    private static final int LEFT_BYTES = 4096;

    private CutMapping() {}

    public static void main(String[] words) throws Throwable {
        Path path = Path.of(words[1]);
        // sighandler_t signal(int signum, sighandler_t handler)
        long _ = (long) Linker.nativeLinker().downcallHandle(
                Linker.nativeLinker().defaultLookup().findOrThrow("signal"),
                FunctionDescriptor.of(JAVA_LONG, JAVA_INT, JAVA_LONG)).invokeExact(SIGBUS, SIG_DFL);
        try (CheckpointFile file = CheckpointFile.open(path);
                ReadMethods methods = new ReadMethods();
                Arena arena = Arena.ofConfined()) {
            ChunkReader reader = new ChunkReader(file, AccessChooser.choose(file, List.of(Backend.MMAP)));
            MemorySegment slab = arena.allocate(file.bytes());
            Chunk chunk = new Chunk(0, 0, 0, file.bytes(), 0, List.of(new Segment(0, 0, file.bytes())));
            reader.readInto(chunk, slab, methods);
            try (RandomAccessFile writer = new RandomAccessFile(path.toFile(), "rw")) {
                writer.setLength(LEFT_BYTES);
            }
            reader.readInto(chunk, slab, methods);
            System.out.println("read what is not there");
        } catch (FileException e) {
            System.out.println("error: " + e.getMessage());
        }
    }
}
