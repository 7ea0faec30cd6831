package io.instanttensor.bridge;

import static java.lang.foreign.ValueLayout.JAVA_INT;

import io.instanttensor.dlpack.ManagedTensors;
import io.instanttensor.posix.ErrnoException;
import io.instanttensor.posix.Posix;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

/// A load for nobody, of a file that exists in memory only, so that the first real one meets a JVM that
/// has done it all before. A cold load takes a quarter of a second, whatever it loads.
///
/// Every start of the engine runs it; so does the build, to record an AOT cache: classes come out of
/// that parsed and linked.
public final class Rehearsal implements Runnable {
    /// For the host; other numbers are ordinals of CUDA devices.
    static final int HOST = -1;

    private static final String HEADER = """
            {"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},\
            "b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}}""";
    private static final int DATA_BYTES = 32;
    private static final long TIMEOUT_MILLIS = 10_000;

    private final int ordinal;

    Rehearsal(int ordinal) {
        this.ordinal = ordinal;
    }

    /// @param arguments the devices to rehearse on
    public static void main(String[] arguments) throws Exception {
        for (String argument : arguments) {
            new Rehearsal(Integer.parseInt(argument)).load();
        }
    }

    /// Rehearses. What fails here is told by the first real load, to somebody who wants to know.
    @Override
    public void run() {
        try {
            load();
        } catch (Exception | LinkageError e) {
            System.getLogger(Rehearsal.class.getName()).log(System.Logger.Level.DEBUG, "no rehearsal", e);
        }
    }

    private void load() throws Exception {
        int fd = Posix.memoryFile("instanttensor-rehearsal");
        try {
            load(write(Path.of("/proc/self/fd/" + fd)));
        } finally {
            Posix.close(fd);
        }
    }

    private void load(Path file) throws Exception {
        PythonCheckpoint checkpoint = PythonBridge.open(file.toString(), "").await(TIMEOUT_MILLIS);
        if (checkpoint == null) {
            return;
        }
        try (Arena arena = Arena.ofConfined()) {
            checkpoint.metadata(0);
            checkpoint.access();
            PythonLoad load = checkpoint.load(
                    arena.allocateFrom(JAVA_INT, 0, 1).address(), 2,
                    PythonCheckpoint.options(ordinal, 0, 0, 0, 0, 0, 0, 1));
            try {
                long managed = load.poll(0, TIMEOUT_MILLIS);
                if (managed > 0) {
                    ManagedTensors.takeBack(managed);
                }
                load.stats();
            } finally {
                load.close();
            }
        } finally {
            checkpoint.close();
        }
    }

    private static Path write(Path file) throws IOException, ErrnoException {
        byte[] header = HEADER.getBytes(StandardCharsets.UTF_8);
        ByteBuffer bytes = ByteBuffer.allocate(Long.BYTES + header.length + DATA_BYTES).order(ByteOrder.LITTLE_ENDIAN);
        bytes.putLong(header.length).put(header);
        return Files.write(file, bytes.array());
    }
}
