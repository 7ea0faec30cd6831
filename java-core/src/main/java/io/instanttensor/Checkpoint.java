package io.instanttensor;

import io.instanttensor.device.ConsumerStream;
import io.instanttensor.device.Device;
import io.instanttensor.device.DeviceId;
import io.instanttensor.device.DeviceMemory;
import io.instanttensor.file.CheckpointFile;
import io.instanttensor.file.CheckpointPaths;
import io.instanttensor.file.ResolvedPaths;
import io.instanttensor.header.Catalogue;
import io.instanttensor.plan.LoadPlan;
import io.instanttensor.plan.LoadPlanner;
import io.instanttensor.plan.PlanLimits;
import io.instanttensor.plan.Ranges;
import io.instanttensor.plan.Selection;
import io.instanttensor.plan.SlabBudget;
import io.instanttensor.plan.Wanted;
import io.instanttensor.posix.Patiently;
import io.instanttensor.read.AccessChooser;
import io.instanttensor.read.Backend;
import io.instanttensor.read.ChunkReader;
import io.instanttensor.read.FileAccess;
import io.instanttensor.slab.ClosedException;
import io.instanttensor.slab.GivenMemory;
import io.instanttensor.slab.MemorySource;
import io.instanttensor.slab.SlabPool;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Optional;
import java.util.Set;

/// One or more safetensors files, open together.
///
/// ```java
/// try (Checkpoint checkpoint = Checkpoint.open(List.of(Path.of("model"))); // files, folders, indexes
///         Load load = checkpoint.load(LoadOptions.defaults(DeviceId.HOST))) {
///     for (Slab next = load.next(); next != null; next = load.next()) {
///         try (Slab slab = next) {
///             MemorySegment bytes = slab.hostView().orElseThrow();
///             for (Placement placement : load.placements(slab)) {
///                 TensorEntry entry = checkpoint.catalogue().tensors().get(placement.wanted().tensor()).entry();
///                 use(entry, bytes.asSlice(placement.slabOffset(), entry.bytes()));
///             }
///         }
///     }
/// }
/// ```
///
/// Thread-safe. Loads that are under way when it is closed go on until they are closed themselves.
public final class Checkpoint implements AutoCloseable {
    /// What is not free by then is freed later.
    private static final long CLOSE_WAIT_MILLIS = 500;

    private final OpenFiles open;
    private final Catalogue catalogue;
    private final List<Backend> backends;
    private final boolean toHost;
    /// By identity: to compare records, the JVM would build code for 5 ms, while the first load waits.
    private final Set<DeviceHome> used = Collections.newSetFromMap(new IdentityHashMap<>());
    private List<ChunkReader> readers;
    private boolean closed;

    private Checkpoint(OpenFiles open, Catalogue catalogue, List<Backend> backends, boolean toHost) {
        this.open = open;
        this.catalogue = catalogue;
        this.backends = backends;
        this.toHost = toHost;
    }

    /// Opens with whatever way of reading is fastest for each file.
    ///
    /// @param paths files, folders of them, and `*.safetensors.index.json`; in any order
    /// @throws io.instanttensor.file.FileException where one is missing or cannot be read
    /// @throws io.instanttensor.header.MalformedHeaderException where one is no safetensors file
    public static Checkpoint open(List<Path> paths) throws IOException {
        return open(paths, List.of(), Optional.empty());
    }

    /// @param backends ways of reading, in the order of preference; empty: whatever is fastest
    /// @param expected the load that will come, as far as it is known: its device is opened, and its staging
    ///     buffers are pinned, while the headers are read
    /// @throws io.instanttensor.device.DeviceException where the device of that load cannot be opened
    /// @throws io.instanttensor.read.NoBackendException where none of the backends can serve
    public static Checkpoint open(List<Path> paths, List<Backend> backends, Optional<LoadOptions> expected)
            throws IOException {
        ResolvedPaths resolved = CheckpointPaths.resolve(paths);
        List<CheckpointFile> files = new ArrayList<>();
        try {
            Patiently.each(resolved.files(), CheckpointFile::open, files, "opening");
            long fileBytes = files.stream().mapToLong(CheckpointFile::bytes).sum();
            // Before the headers: where readers start while it still pins, they wait for the driver.
            Optional<Preparation> preparation = expected.filter(load -> load.device().kind() != DeviceId.Kind.CPU)
                    .map(load -> Preparation.start(load, fileBytes));
            Catalogue catalogue;
            try (HeaderReads headers = HeaderReads.start(files)) {
                catalogue = Catalogue.of(headers.await(), resolved.fileByTensor());
                if (preparation.isPresent()) {
                    preparation.get().awaitDevice();
                }
            }
            boolean toHost = expected.isPresent() && expected.get().device().kind() == DeviceId.Kind.CPU;
            Checkpoint checkpoint = new Checkpoint(new OpenFiles(files), catalogue, List.copyOf(backends), toHost);
            if (!backends.isEmpty()) {
                // Whether they can serve; without a wish, what is in the page cache counts, and later.
                checkpoint.readers();
            }
            return checkpoint;
        } catch (IOException | RuntimeException | Error e) {
            files.forEach(CheckpointFile::close);
            throw e;
        }
    }

    public Catalogue catalogue() {
        return catalogue;
    }

    /// How each file is read, and why. Decided once, at opening where backends were asked for, else at the
    /// first call or load: what is in the page cache may change later.
    public List<FileAccess> access() throws IOException {
        return readers().stream().map(ChunkReader::access).toList();
    }

    private synchronized List<ChunkReader> readers() throws IOException {
        if (closed) {
            // The descriptors may be somebody else's by now.
            throw new ClosedException("the checkpoint is closed");
        }
        if (readers == null) {
            List<ChunkReader> chosen = new ArrayList<>();
            Patiently.each(open.files(), file -> new ChunkReader(
                    file, AccessChooser.choose(file, backends, toHost)), chosen, "choosing");
            readers = List.copyOf(chosen);
        }
        return readers;
    }

    /// Starts loading all tensors.
    public Load load(LoadOptions options) throws IOException {
        long calledNanos = System.nanoTime();
        return load(Selection.all(catalogue), options, calledNanos);
    }

    /// What a load of all tensors would do if it were started now. Reads nothing, and takes no memory.
    public LoadOutlook outlook(LoadOptions options) throws IOException {
        Selection all = Selection.all(catalogue);
        SlabBudget budget = budget(all.largestBytes(), options);
        LoadPlan plan = plan(all, budget.slabBytes(), options, options.share());
        return LoadOutlook.of(plan, budget, options, readers());
    }

    /// Starts loading some.
    ///
    /// @param tensors indexes into the catalogue, ascending
    public Load load(int[] tensors, LoadOptions options) throws IOException {
        long calledNanos = System.nanoTime();
        return load(Selection.of(catalogue, tensors), options, calledNanos);
    }

    private Load load(Selection selection, LoadOptions options, long calledNanos) throws IOException {
        DeviceHome home = DeviceHome.of(options.device());
        SlabBudget budget = budget(selection.largestBytes(), options);
        SlabBudget own = options.ranks() == 1 ? budget : budget.ofGathered();
        LoadPlan plan = plan(selection, own.slabBytes(), options, options.share());
        SlabPool pool = new SlabPool(home.device(), own, plan.slabs().size() > 1);
        return start(selection, plan, home, pool, options, budget, calledNanos);
    }

    /// What a load of all tensors may take for slabs of its own, going by the memory that is free now.
    public SlabBudget budget(LoadOptions options) {
        return budget(catalogue.totals().largestBytes(), options);
    }

    /// What a load of these tensors may take for slabs of its own, going by the memory that is free now.
    public SlabBudget budget(int[] tensors, LoadOptions options) {
        long largestBytes = 0;
        for (int tensor : tensors) {
            largestBytes = Math.max(largestBytes, catalogue.tensors().get(tensor).entry().bytes());
        }
        return budget(largestBytes, options);
    }

    private static SlabBudget budget(long largestBytes, LoadOptions options) {
        Device device = DeviceHome.of(options.device()).device();
        try (Device.Scope scope = device.enter()) {
            return SlabBudget.of(
                    options.bufferBytes(), largestBytes, device.memory().freeBytes(), options.maxFreeFraction());
        }
    }

    private static LoadPlan plan(Selection selection, long slabBytes, LoadOptions options, PlanLimits.Share share) {
        return LoadPlanner.plan(selection.ranges(), new PlanLimits(
                slabBytes, options.chunkBytes(), BatchSize.of(options, selection.bytes()), share));
    }

    /// Starts loading ranges into memory of the caller's.
    ///
    /// @param wanted none of them empty
    /// @param addresses where each belongs; the memory has to stay until the load has drained
    /// @param streamHandle of the stream that used the memory last, and will use it next
    public Load loadInto(List<Wanted> wanted, long[] addresses, long streamHandle, LoadOptions options)
            throws IOException {
        long calledNanos = System.nanoTime();
        if (addresses.length != wanted.size()) {
            throw new IllegalArgumentException(wanted.size() + " ranges with " + addresses.length + " addresses");
        }
        DeviceHome home = DeviceHome.of(options.device());
        // No two ranges fit one slab of a single byte: each gets one of its own, and so its own memory.
        Selection selection = Selection.of(Ranges.of(List.copyOf(wanted)));
        LoadPlan plan = plan(selection, 1, options, PlanLimits.Share.ALL);
        try (Device.Scope scope = home.device().enter()) {
            List<DeviceMemory> targets = new ArrayList<>(wanted.size());
            for (int i = 0; i < addresses.length; i++) {
                targets.add(home.device().borrow(addresses[i], wanted.get(i).bytes()));
            }
            ConsumerStream stream = home.device().consumerStream(streamHandle);
            MemorySource source = new GivenMemory(home.device(), targets, stream);
            return start(selection, plan, home, source, options, null, calledNanos);
        }
    }

    private Load start(
            Selection selection, LoadPlan plan, DeviceHome home, MemorySource source, LoadOptions options,
            SlabBudget budget, long calledNanos) throws IOException {
        open.retain();
        remember(home);
        Load load;
        try {
            requireFilesUnchanged(selection);
            load = new Load(plan, home, source, open, readers(), options, budget, calledNanos);
        } catch (IOException | RuntimeException | Error e) {
            open.release();
            throw e;
        }
        return load.start();
    }

    private void requireFilesUnchanged(Selection selection) throws IOException {
        for (Wanted first : selection.firstOfFiles()) {
            open.files().get(first.file()).requireUnchanged(first.fileOffset(), first.bytes());
        }
    }

    private synchronized void remember(DeviceHome home) {
        used.add(home);
    }

    /// Closes the files, or leaves it to the last load that reads them, and waits until memory that nobody
    /// views has been freed.
    @Override
    public void close() {
        List<DeviceHome> homes;
        synchronized (this) {
            if (closed) {
                return;
            }
            closed = true;
            homes = List.copyOf(used);
        }
        open.release();
        try {
            for (DeviceHome home : homes) {
                home.reclaimer().awaitIdle(CLOSE_WAIT_MILLIS);
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
