package io.instanttensor.stage;

import io.instanttensor.device.Device;
import io.instanttensor.plan.Chunk;
import io.instanttensor.plan.LoadPlan;
import io.instanttensor.plan.SlabLayout;
import io.instanttensor.posix.EngineThreads;
import io.instanttensor.read.ChunkReader;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;

/// The readers of one load. They claim the plan's chunks in order; the slabs' order follows from that.
public final class ReadPipeline {
    private static final System.Logger LOG = System.getLogger(ReadPipeline.class.getName());

    private final List<Chunk> chunks;
    private final List<ChunkReader> files;
    private final SlabRoom room;
    private final Device device;
    private final StagingPool staging;
    private final StageCounters counters;
    private final Settings settings;
    private final AtomicInteger nextChunk = new AtomicInteger();
    private final AtomicInteger readersLeft;
    private final CountDownLatch drained;
    private volatile boolean stopped;

    /// @param readers how many threads read at once
    /// @param buffersPerReader how many copies of one reader may be under way
    /// @param chunkBytes of the largest chunk
    public record Settings(int readers, int buffersPerReader, long chunkBytes) {
        public Settings {
            if (readers < 1 || buffersPerReader < 1) {
                throw new IllegalArgumentException(readers + " readers with " + buffersPerReader + " buffers each");
            }
        }
    }

    public ReadPipeline(
            LoadPlan plan, List<ChunkReader> files, SlabRoom room, Device device, StagingPool staging,
            StageCounters counters, Settings settings) {
        this.chunks = new ArrayList<>(plan.chunkCount());
        for (SlabLayout slab : plan.slabs()) {
            chunks.addAll(slab.chunks());
        }
        this.files = files;
        this.room = room;
        this.device = device;
        this.staging = staging;
        this.counters = counters;
        this.settings = settings;
        int readers = Math.min(settings.readers(), chunks.size());
        this.readersLeft = new AtomicInteger(readers);
        this.drained = new CountDownLatch(readers);
    }

    /// Starts the readers; without chunks there are none, and the pipeline is drained at once.
    public void start() {
        int readers = readersLeft.get();
        if (readers == 0) {
            room.drained();
        }
        for (int i = 0; i < readers; i++) {
            Reader reader = new Reader(i, this);
            try {
                EngineThreads.builder().name("instanttensor-reader-" + i).start(reader);
            } catch (OutOfMemoryError e) {
                // The process may have no more threads. Those that did not start have left already.
                failed(e);
                IntStream.range(i, readers).forEach(_ -> left());
                return;
            }
        }
    }

    /// Asks the readers to leave. One that is inside a read leaves when the read returns: a thread
    /// cannot be taken out of the kernel.
    public void stop() {
        stopped = true;
    }

    /// Whether all readers have left within the given time.
    public boolean awaitDrained(long timeout, TimeUnit unit) throws InterruptedException {
        return drained.await(timeout, unit);
    }

    boolean stopped() {
        return stopped;
    }

    /// The next chunk to read; null when there is none or the load was stopped.
    Chunk claim() {
        int index = nextChunk.getAndIncrement();
        return stopped || index >= chunks.size() ? null : chunks.get(index);
    }

    void failed(Throwable cause) {
        stopped = true;
        room.fail(cause);
    }

    void left() {
        try {
            if (readersLeft.decrementAndGet() == 0) {
                room.drained();
            }
        } catch (RuntimeException e) {
            // All slabs were handed out, or the caller knows that the load has failed or was closed.
            LOG.log(System.Logger.Level.WARNING, "a load to " + device.id() + " left something behind", e);
        } finally {
            drained.countDown();
        }
    }

    ChunkReader file(int index) {
        return files.get(index);
    }

    SlabRoom room() {
        return room;
    }

    Device device() {
        return device;
    }

    StagingPool staging() {
        return staging;
    }

    StageCounters counters() {
        return counters;
    }

    Settings settings() {
        return settings;
    }
}
