package io.instanttensor.slab;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.instanttensor.device.ConsumerStream;
import io.instanttensor.device.Device;
import io.instanttensor.device.DeviceMemory;
import io.instanttensor.device.Fence;
import io.instanttensor.file.CheckpointFile;
import io.instanttensor.plan.LoadPlan;
import io.instanttensor.plan.LoadPlanner;
import io.instanttensor.plan.Placement;
import io.instanttensor.plan.PlanLimits;
import io.instanttensor.plan.Ranges;
import io.instanttensor.plan.SlabBudget;
import io.instanttensor.plan.Wanted;
import io.instanttensor.read.AccessChooser;
import io.instanttensor.read.Backend;
import io.instanttensor.read.ChunkReader;
import io.instanttensor.stage.ReadPipeline;
import io.instanttensor.stage.StageCounters;
import io.instanttensor.stage.StagingPool;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/// A load of one file, put together by hand, on a device that the test opens and closes.
///
/// What takes longer than any load here can is a hang, and fails the test.
public final class LoadRig implements AutoCloseable {
    public static final long HANG_MILLIS = 20_000;
    static final long KIB = 1 << 10;
    static final long MIB = 1 << 20;

    final SlabQueue queue;
    final SlabPool pool;
    final StageCounters counters = new StageCounters();
    private final Device device;
    private final Reclaimer reclaimer;
    private final CheckpointFile file;
    private final ReadPipeline pipeline;
    private final LoadPlan plan;

    /// What a load is made with; the `with` methods change one thing.
    public record Setup(
            Device device, StagingPool staging, Reclaimer reclaimer, Backend backend, long capBytes, long slabBytes,
            long chunkBytes, int readers) {
        /// Four readers, a budget of four slabs.
        public static Setup of(Device device, StagingPool staging, Reclaimer reclaimer, long slabBytes) {
            return new Setup(device, staging, reclaimer, Backend.AIO_BUFFERED, 4 * slabBytes, slabBytes, 16 * KIB, 4);
        }

        Setup withCap(long bytes) {
            return new Setup(device, staging, reclaimer, backend, bytes, slabBytes, chunkBytes, readers);
        }

        Setup withReaders(int count) {
            return new Setup(device, staging, reclaimer, backend, capBytes, slabBytes, chunkBytes, count);
        }

        Setup withChunks(long bytes) {
            return new Setup(device, staging, reclaimer, backend, capBytes, slabBytes, bytes, readers);
        }

        Setup withBackend(Backend asked) {
            return new Setup(device, staging, reclaimer, asked, capBytes, slabBytes, chunkBytes, readers);
        }

        /// Starts loading tensors that lie one behind the other.
        public LoadRig load(Path path, long... tensorBytes) throws IOException {
            return new LoadRig(this, path, ranges(tensorBytes), List.of());
        }

        /// The same, each to memory of its own that the caller keeps.
        LoadRig loadInto(List<DeviceMemory> targets, Path path) throws IOException {
            return new LoadRig(this, path,
                    ranges(targets.stream().mapToLong(DeviceMemory::bytes).toArray()), targets);
        }

        private static List<Wanted> ranges(long... tensorBytes) {
            List<Wanted> wanted = new ArrayList<>();
            long offset = 0;
            for (long bytes : tensorBytes) {
                wanted.add(new Wanted(wanted.size(), 0, offset, bytes, 1));
                offset += bytes;
            }
            return wanted;
        }
    }

    private LoadRig(Setup setup, Path path, List<Wanted> wanted, List<DeviceMemory> targets) throws IOException {
        this.device = setup.device();
        this.reclaimer = setup.reclaimer();
        this.file = CheckpointFile.open(path);
        this.plan = LoadPlanner.plan(
                Ranges.of(wanted),
                new PlanLimits(targets.isEmpty() ? setup.slabBytes() : 1, setup.chunkBytes(), 4 * setup.chunkBytes(),
                        PlanLimits.Share.ALL));
        SlabBudget budget = new SlabBudget(setup.capBytes(), setup.slabBytes(), 2);
        this.pool = new SlabPool(device, budget, plan.slabs().size() > 1);
        MemorySource source = targets.isEmpty()
                ? pool : new GivenMemory(device, targets, device.consumerStream(0));
        this.queue = new SlabQueue(plan, device, source, reclaimer);
        ChunkReader reader = new ChunkReader(file, AccessChooser.choose(file, List.of(setup.backend())));
        this.pipeline = new ReadPipeline(plan, List.of(reader), queue, device, setup.staging(), counters,
                setup.readers(), setup.readers(), StagingPool.LIMIT_BYTES);
        pipeline.start();
    }

    /// The next slab; null after the last.
    public Slab take() throws InterruptedException {
        long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(HANG_MILLIS);
        while (!queue.exhausted()) {
            Slab slab = poll(100);
            if (slab != null) {
                return slab;
            }
            assertTrue(System.nanoTime() < deadline, "the load hangs");
        }
        return null;
    }

    Slab poll(long timeoutMillis) throws InterruptedException {
        Slab slab = null;
        try (Device.Scope _ = device.enter()) {
            slab = queue.take(device.consumerStream(0), timeoutMillis);
            return slab;
        } catch (RuntimeException e) {
            if (slab != null) {
                slab.close();
            }
            throw e;
        }
    }

    /// Waits for the bytes as the caller's stream would, and compares each tensor with the file.
    void requireRight(Slab slab, byte[] content) {
        try (Device.Scope _ = device.enter();
                Fence arrived = device.newFence()) {
            ConsumerStream stream = device.consumerStream(0);
            stream.record(arrived);
            arrived.await();
        }
        for (Placement placement : plan.slabs().get(slab.index()).placements()) {
            Wanted wanted = placement.wanted();
            if (wanted.bytes() > 0) {
                // The stub's device memory is host memory.
                MemorySegment found = MemorySegment.ofAddress(slab.address() + placement.slabOffset())
                        .reinterpret(wanted.bytes());
                MemorySegment expected = MemorySegment.ofArray(content).asSlice(wanted.fileOffset(), wanted.bytes());
                assertEquals(-1, expected.mismatch(found), "tensor " + wanted.tensor() + " differs at");
            }
        }
    }

    /// Ends the load, and waits until nothing of it is left but what was handed out.
    @Override
    public void close() throws InterruptedException {
        pipeline.stop();
        queue.stop();
        assertTrue(pipeline.awaitDrained(HANG_MILLIS, TimeUnit.MILLISECONDS), "the readers hang");
        try {
            queue.settleIfOver();
        } finally {
            assertTrue(reclaimer.awaitIdle(HANG_MILLIS), "the reclaimer hangs");
            file.close();
        }
    }
}
