package io.instanttensor;

import io.instanttensor.device.Device;
import io.instanttensor.plan.LoadPlan;
import io.instanttensor.plan.Placement;
import io.instanttensor.plan.SlabBudget;
import io.instanttensor.read.ChunkReader;
import io.instanttensor.slab.ClosedException;
import io.instanttensor.slab.MemorySource;
import io.instanttensor.slab.Slab;
import io.instanttensor.slab.SlabPool;
import io.instanttensor.slab.SlabQueue;
import io.instanttensor.stage.ReadPipeline;
import io.instanttensor.stage.SlabRoom;
import io.instanttensor.stage.StageCounters;
import io.instanttensor.stage.StagingPool;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;

/// A load under way: its readers have started. Taken from by one thread at a time, closed by any.
public final class Load implements AutoCloseable {
    /// How long closing waits for readers that are inside the kernel. They are left to themselves after
    /// that, and clean up when they come back.
    private static final long CLOSE_WAIT_MILLIS = 500;
    /// For [#next()], which waits as long as it takes.
    private static final long WAIT_SLICE_MILLIS = 1000;

    private final LoadPlan plan;
    private final DeviceHome home;
    private final MemorySource source;
    private final SlabBudget budget;
    private final SlabQueue queue;
    private final ReadPipeline pipeline;
    private final StageCounters counters = new StageCounters();
    private final AtomicBoolean closed = new AtomicBoolean();
    private final long planNanos;
    private final long startNanos = System.nanoTime();
    private long callerWaitNanos;
    private volatile long endNanos;

    /// @param calledNanos when the caller asked for it
    Load(
            LoadPlan plan, DeviceHome home, MemorySource source, OpenFiles open, List<ChunkReader> files,
            LoadOptions options, SlabBudget budget, long calledNanos) {
        this.planNanos = startNanos - calledNanos;
        this.plan = plan;
        this.home = home;
        this.source = source;
        this.budget = budget;
        this.queue = new SlabQueue(plan, home.device(), source, home.reclaimer());
        SlabRoom room = new ReleasingFiles(queue, open);
        ReaderCount readers = ReaderCount.of(options, files);
        this.pipeline = new ReadPipeline(plan, files, room, home.device(), home.staging(), counters,
                readers.first(), readers.most(), StagingPool.limitBytes(options.processes()));
    }

    /// Starts the readers. From here on the files are released by the last of them.
    Load start() {
        pipeline.start();
        return this;
    }

    public LoadPlan plan() {
        return plan;
    }

    /// What lies in a slab, and where.
    ///
    /// @param slab of this load
    public List<Placement> placements(Slab slab) {
        return plan.slabs().get(slab.index()).placements();
    }

    /// The next slab; null after the last. Waits as long as it takes.
    ///
    /// @throws io.instanttensor.slab.LoadFailedException where reading failed, with the error as its cause
    public Slab next() throws InterruptedException {
        Slab slab = null;
        while (slab == null && !exhausted()) {
            slab = poll(0, WAIT_SLICE_MILLIS);
        }
        return slab;
    }

    /// The next slab, if it comes in time; null if not, or after the last.
    ///
    /// @param streamHandle of the caller's stream, which waits for the slab's bytes from now on
    public Slab poll(long streamHandle, long timeoutMillis) throws InterruptedException {
        if (closed.get()) {
            throw new ClosedException("the load has been closed");
        }
        long start = System.nanoTime();
        Slab slab = null;
        try (Device.Scope scope = home.device().enter()) {
            slab = queue.take(home.device().consumerStream(streamHandle), timeoutMillis);
            return slab;
        } catch (RuntimeException e) {
            if (slab != null) {
                // Nobody gets to know it.
                slab.close();
            }
            throw e;
        } finally {
            callerWaitNanos += System.nanoTime() - start;
            if (endNanos == 0 && exhausted()) {
                endNanos = System.nanoTime();
            }
        }
    }

    /// Lets one more stream use a slab of this load.
    public void alsoOn(Slab slab, long streamHandle) {
        try (Device.Scope scope = home.device().enter()) {
            slab.alsoOn(home.device().consumerStream(streamHandle));
        }
    }

    /// Whether all slabs have been handed out.
    public boolean exhausted() {
        return queue.exhausted();
    }

    /// The bytes of tensors that have been read so far, up to the plan's `wantedBytes`.
    public long stagedBytes() {
        return counters.stagedBytes.get();
    }

    public LoadStats stats() {
        long end = endNanos == 0 ? System.nanoTime() : endNanos;
        long peakBytes = source instanceof SlabPool pool ? pool.peakOwnBytes() : 0;
        return LoadStats.of(plan, budget, counters, end - startNanos, planNanos, callerWaitNanos, peakBytes,
                home.staging().pinnedBytes());
    }

    /// Whether nothing of this load can write to memory any more.
    public boolean drained(long timeoutMillis) throws InterruptedException {
        return pipeline.awaitDrained(timeoutMillis, TimeUnit.MILLISECONDS);
    }

    /// Ends the load: its readers leave, what was not handed out is freed. What was handed out stays
    /// with its views. After the last slab, freeing goes on behind the caller's back; closing the checkpoint
    /// waits for it.
    @Override
    public void close() {
        if (!closed.compareAndSet(false, true)) {
            return;
        }
        if (endNanos == 0) {
            endNanos = System.nanoTime();
        }
        pipeline.stop();
        queue.stop();
        try {
            if (pipeline.awaitDrained(CLOSE_WAIT_MILLIS, TimeUnit.MILLISECONDS)) {
                home.reclaimer().offer(queue::settleIfOver);
                if (!exhausted()) {
                    home.reclaimer().awaitIdle(CLOSE_WAIT_MILLIS);
                }
            }
        } catch (InterruptedException e) {
            // Settling waits for nobody; where readers are still at work, the last of them does it.
            home.reclaimer().offer(queue::settleIfOver);
            Thread.currentThread().interrupt();
        }
    }

    /// The queue, and behind it the files' release: the last reader out closes the door.
    private record ReleasingFiles(SlabQueue queue, OpenFiles open) implements SlabRoom {
        @Override
        public Target open(int slab) throws InterruptedException {
            return queue.open(slab);
        }

        @Override
        public Target openAtOnce(int slab) throws InterruptedException {
            return queue.openAtOnce(slab);
        }

        @Override
        public void openAhead(int slab) throws InterruptedException {
            queue.openAhead(slab);
        }

        @Override
        public void fail(Throwable cause) {
            queue.fail(cause);
        }

        @Override
        public void drained() {
            try {
                queue.drained();
            } finally {
                open.release();
            }
        }
    }
}
