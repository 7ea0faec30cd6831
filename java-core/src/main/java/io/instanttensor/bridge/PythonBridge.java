package io.instanttensor.bridge;

import io.instanttensor.Checkpoint;
import io.instanttensor.LoadOptions;
import io.instanttensor.dlpack.ManagedTensors;
import io.instanttensor.file.ReadUnderWay;
import io.instanttensor.read.Backend;
import io.instanttensor.read.NoBackendException;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;

/// The one class that Python finds.
public final class PythonBridge {
    /// What no file name can contain.
    private static final String SEPARATOR = "\0";

    private PythonBridge() {}

    /// Goes through a load once, so that the first real one is quick.
    public static void rehearse() throws InterruptedException {
        Rehearsal.start();
        Rehearsal.await(0);
    }

    /// Gives a rehearsal that has been started time to end.
    ///
    /// @param timeoutMillis more than 0
    public static void awaitRehearsal(long timeoutMillis) throws InterruptedException {
        Rehearsal.await(timeoutMillis);
    }

    /// A small checkpoint that exists in memory only, for trying a load.
    ///
    /// @return its descriptor, which the caller closes
    public static int rehearsalFile() throws Exception {
        return Rehearsal.file(0);
    }

    /// Starts opening a checkpoint.
    ///
    /// @param paths joined by NUL
    /// @param backends names joined by NUL; empty: whatever is fastest
    /// @param expected the options of the load that will come, to prepare for it; null where none may
    public static Opening open(String paths, String backends, PythonOptions expected) {
        List<Path> named = split(paths).stream().map(Path::of).toList();
        List<Backend> candidates = Backend.named(split(backends));
        Optional<LoadOptions> load = Optional.ofNullable(expected).map(PythonOptions::toLoadOptions);
        return new Opening(() -> opened(named, candidates, load));
    }

    /// Decides about direct reads too: that can take a read to try, and here Python can be interrupted.
    private static PythonCheckpoint opened(List<Path> paths, List<Backend> backends, Optional<LoadOptions> load)
            throws IOException {
        Checkpoint checkpoint = Checkpoint.open(paths, backends, load);
        try {
            checkpoint.access();
        } catch (NoBackendException e) {
            // For the first load to tell: names and shapes can be had without.
        } catch (IOException | RuntimeException | Error e) {
            checkpoint.close();
            throw e;
        }
        return new PythonCheckpoint(checkpoint);
    }

    /// See [PythonOptions].
    public static PythonOptions options(
            int cudaOrdinal, long bufferBytes, long chunkBytes, int readers, int readsInFlight,
            double maxFreeFraction, int rank, int world, int processes,
            int ranks) {
        return new PythonOptions(
                cudaOrdinal, bufferBytes, chunkBytes, readers, readsInFlight, maxFreeFraction, rank, world, processes,
                ranks);
    }

    /// What the CUDA driver says of itself and of the GPUs; for `doctor`, as [Probes#gpus] flattens it.
    ///
    /// @param opened the GPU to try; -1 for none
    public static Answer gpus(int opened) {
        return new Answer(() -> Probes.gpus(opened));
    }

    /// Whether io_uring could be used: empty, or why not.
    public static Answer ioUring() {
        return new Answer(Probes::ioUring);
    }

    /// What the storage of a file can do; as [Probes#storage] flattens it.
    public static Answer storage(String file) {
        return new Answer(() -> Probes.storage(Path.of(file)));
    }

    /// Where the structs of exported slabs lie; for a forked child, which must not call anything here.
    public static long exportTableAddress() {
        return ManagedTensors.tableAddress();
    }

    /// How many slabs Python holds.
    public static int liveExports() {
        return ManagedTensors.live();
    }

    /// Reads that have taken so long and are not back, each told of once; null for none.
    public static String[] slowReads(long millis) {
        List<String> found = ReadUnderWay.slow(millis);
        return found.isEmpty() ? null : found.toArray(String[]::new);
    }

    /// What Python should make of an exception of ours.
    public static PythonError describe(Throwable thrown) {
        return PythonError.of(thrown);
    }

    private static List<String> split(String joined) {
        return joined.isEmpty() ? List.of() : Arrays.asList(joined.split(SEPARATOR, -1));
    }
}
