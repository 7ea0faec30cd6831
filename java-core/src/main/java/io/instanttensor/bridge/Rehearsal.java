package io.instanttensor.bridge;

import io.instanttensor.Machine;
import io.instanttensor.dlpack.ManagedTensors;
import io.instanttensor.header.Catalogue;
import io.instanttensor.header.HeaderReader;
import io.instanttensor.header.SafetensorsHeader;
import io.instanttensor.plan.LoadPlanner;
import io.instanttensor.plan.PlanLimits;
import io.instanttensor.plan.Selection;
import io.instanttensor.posix.EngineThreads;
import io.instanttensor.posix.ErrnoException;
import io.instanttensor.posix.Posix;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/// A load for nobody, of files that exist in memory only, so that the first real one meets a JVM that
/// has done it all before: a cold load takes a quarter of a second, whatever it loads.
///
/// It runs on a thread of its own while jep is being attached.
final class Rehearsal {
    /// Several, since headers of several files are read at once, and names in several files are compared.
    private static final int FILES = 2;
    private static final int TENSORS = 48;
    /// As many as it takes for the compiler to look at what is done for every tensor.
    private static final int PLANNED_TENSORS = 768;
    private static final int TENSOR_BYTES = 8;
    private static final int PLANNED_TENSOR_BYTES = 1 << 20;
    private static final long PLANNED_SLAB_BYTES = 64L << 20;
    private static final int CHUNKS_A_BATCH = 2;
    private static final int SPARE_PROCESSORS = 4;
    private static final long TIMEOUT_MILLIS = 10_000;

    private static Thread running;

    private Rehearsal() {}

    /// Starts it where there are processors to spare; with few it would only make the start longer, by as
    /// much as it makes the first load shorter. What the JVM has to build for any load is built in any case.
    static void startBeside() {
        boolean spare = Runtime.getRuntime().availableProcessors() >= SPARE_PROCESSORS;
        build("downcalls", () -> {
            Posix.prepare();
            if (spare) {
                // Not before: beside them, downcalls take 30 ms in place of 15, and the rehearsal waits for those.
                build("planning", Rehearsal::plan);
                build("bindings", Machine::bindDriver);
            }
        });
        build("upcalls", ManagedTensors::prepare);
        if (spare) {
            start();
        }
    }

    private interface Step {
        void run() throws ErrnoException, IOException;
    }

    /// On a thread of its own.
    private static void build(String what, Step step) {
        EngineThreads.builder().name("instanttensor-" + what).start(() -> {
            try {
                step.run();
            } catch (Exception | LinkageError | OutOfMemoryError e) {
                System.getLogger(Rehearsal.class.getName()).log(System.Logger.Level.DEBUG, what + " not prepared", e);
            }
        });
    }

    /// Starts it, once in a process.
    static synchronized void start() {
        if (running == null) {
            running = EngineThreads.builder().name("instanttensor-rehearsal").start(Rehearsal::run);
        }
    }

    /// Waits for its end, where it has been started.
    static void await(long timeoutMillis) throws InterruptedException {
        Thread started;
        synchronized (Rehearsal.class) {
            started = running;
        }
        if (started != null) {
            started.join(timeoutMillis);
        }
    }

    /// What fails here is told by the first real load, to somebody who wants to know.
    private static void run() {
        int[] descriptors = new int[FILES];
        int made = 0;
        try {
            while (made < FILES) {
                descriptors[made] = file(made);
                made++;
            }
            load(IntStream.of(descriptors).mapToObj(fd -> "/proc/self/fd/" + fd).collect(Collectors.joining("\0")));
        } catch (Exception | LinkageError | OutOfMemoryError e) {
            System.getLogger(Rehearsal.class.getName()).log(System.Logger.Level.DEBUG, "no rehearsal", e);
        } finally {
            IntStream.of(descriptors).limit(made).forEach(Posix::close);
        }
    }

    private static void plan() throws IOException {
        long dataBytes = (long) PLANNED_TENSORS * PLANNED_TENSOR_BYTES;
        List<SafetensorsHeader> headers = new ArrayList<>();
        for (int file = 0; file < FILES; file++) {
            byte[] text = header(file, PLANNED_TENSORS, PLANNED_TENSOR_BYTES);
            headers.add(HeaderReader.parse(Path.of("rehearsal-" + file), text, dataBytes));
        }
        Catalogue catalogue = Catalogue.of(headers, Map.of());
        CatalogueBlock.of(catalogue).free();
        Selection all = Selection.all(catalogue);
        long chunkBytes = PlanLimits.DEFAULT_CHUNK_BYTES;
        PlanLimits limits = new PlanLimits(
                PLANNED_SLAB_BYTES, chunkBytes, CHUNKS_A_BATCH * chunkBytes, PlanLimits.Share.ALL);
        // Readers cut batches one at a time while the others wait.
        LoadPlanner.plan(all.ranges(), limits).count(Integer.MAX_VALUE);
    }

    private static byte[] header(int file, int tensors, int tensorBytes) {
        StringBuilder header = new StringBuilder("{\"__metadata__\":{\"format\":\"pt\"}");
        for (int i = 0; i < tensors; i++) {
            header.append(",\"model.").append(file).append(".layers.").append(i).append(".weight\":{\"dtype\":\"")
                    .append(i % 2 == 0 ? "F32" : "BF16").append("\",\"shape\":[")
                    .append(i % 2 == 0 ? "2," + tensorBytes / 8 : tensorBytes / 2)
                    .append("],\"data_offsets\":[").append((long) i * tensorBytes).append(',')
                    .append((i + 1L) * tensorBytes).append("]}");
        }
        return header.append('}').toString().getBytes(StandardCharsets.UTF_8);
    }

    /// One of them, with names of its own, as a descriptor that the caller closes.
    static int file(int number) throws IOException, ErrnoException {
        byte[] text = header(number, TENSORS, TENSOR_BYTES);
        ByteBuffer bytes = ByteBuffer.allocate(Long.BYTES + text.length + TENSORS * TENSOR_BYTES)
                .order(ByteOrder.LITTLE_ENDIAN);
        bytes.putLong(text.length).put(text);
        int fd = Posix.memoryFile("instanttensor-rehearsal");
        try {
            Files.write(Path.of("/proc/self/fd/" + fd), bytes.array());
            return fd;
        } catch (IOException | RuntimeException e) {
            Posix.close(fd);
            throw e;
        }
    }

    private static void load(String paths) throws Exception {
        PythonCheckpoint checkpoint = PythonBridge.open(paths, "", null).await(TIMEOUT_MILLIS);
        if (checkpoint == null) {
            return;
        }
        try {
            checkpoint.files();
            checkpoint.duplicates();
            checkpoint.metadata(0);
            checkpoint.access();
            PythonLoad load = checkpoint.loadAll(PythonBridge.options(-1, 0, 0, 0, 0, 0, 0, 1, 1, 1));
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
}
