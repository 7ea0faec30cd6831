package io.instanttensor.stage;

import io.instanttensor.device.Device;
import io.instanttensor.device.DeviceId;
import io.instanttensor.device.OutOfDeviceMemoryException;
import io.instanttensor.plan.LoadPlan;
import io.instanttensor.posix.EngineThreads;
import io.instanttensor.read.ChunkReader;
import io.instanttensor.read.ReadMethod;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/// The readers of one load. They claim the plan's chunks in order; the slabs' order follows from that.
public final class ReadPipeline {

    private final Claims claims;
    private final Claims.Room roomAtOnce = this::hasRoom;
    private final List<ChunkReader> files;
    private final SlabRoom room;
    private final Device device;
    private final LoadStaging staging;
    private final Copier copier;
    private final StageCounters counters;
    private final boolean toDevice;
    /// To begin with.
    private final int readers;
    private final ReadDepth depth;
    private final AtomicInteger readersStarted;
    private final AtomicInteger readersLeft;
    private final CountDownLatch drained;
    private volatile boolean stopped;

    /// @param readers how many threads read at once, if there is that much to read
    /// @param mostReaders how many that may become, where more read faster
    /// @param stagingBytes of buffers in use, at most
    public ReadPipeline(
            LoadPlan plan, List<ChunkReader> files, SlabRoom room, Device device, StagingPool staging,
            StageCounters counters, int readers, int mostReaders, long stagingBytes) {
        if (readers < 1) {
            throw new IllegalArgumentException(readers + " readers");
        }
        this.claims = new Claims(plan.slabs(), files);
        this.files = files;
        this.room = room;
        this.device = device;
        this.staging = new LoadStaging(staging, plan.bufferBytes(), stagingBytes);
        this.copier = new Copier(device, counters);
        this.counters = counters;
        this.toDevice = device.id().kind() == DeviceId.Kind.CUDA && readToDevice(files);
        int chunks = plan.count(mostReaders).chunks();
        this.readers = Math.min(readers, chunks);
        this.depth = new ReadDepth(this.readers, Math.min(mostReaders, chunks));
        this.readersStarted = new AtomicInteger(this.readers);
        this.readersLeft = new AtomicInteger(this.readers);
        this.drained = new CountDownLatch(Math.min(1, this.readers));
    }

    /// Whether all of them are: copies, which have an order, would else fill a slab together with what has none.
    private static boolean readToDevice(List<ChunkReader> files) {
        for (ChunkReader file : files) {
            if (file.access().method() != ReadMethod.CUFILE) {
                return false;
            }
        }
        return true;
    }

    /// Starts the readers; without chunks there are none, and the pipeline is drained at once.
    public void start() {
        if (readers == 0) {
            room.drained();
        } else {
            start(0);
        }
    }

    /// Has a reader start two more, and these two each: the caller has other things to do, and fourteen
    /// threads one by one take milliseconds.
    void startAfter(int number) {
        start(2 * number + 1);
        start(2 * number + 2);
    }

    private void start(int number) {
        if (number >= readers) {
            return;
        }
        try {
            startReader(number);
        } catch (RuntimeException | Error e) {
            failed(e);
            leftWithThoseAfter(number);
        }
    }

    /// Throws an OutOfMemoryError where the process may have no more threads.
    private void startReader(int number) {
        EngineThreads.builder().name("instanttensor-reader-" + number).start(new Reader(number, this));
    }

    /// A reader has moved a chunk, and may have found that more readers would be faster.
    void readOver(long bytes, long waitedNanos) {
        int wanted = depth.end(bytes, waitedNanos);
        for (int number = readersStarted.get(); number < wanted; number = readersStarted.get()) {
            if (readersStarted.compareAndSet(number, number + 1)) {
                startOneMore(number);
            }
        }
    }

    private void startOneMore(int number) {
        readersLeft.incrementAndGet();
        try {
            startReader(number);
        } catch (RuntimeException | Error e) {
            // Those that are there go on.
            readersLeft.decrementAndGet();
        }
    }

    /// Those that did not start have left already.
    private void leftWithThoseAfter(int number) {
        if (number < readers) {
            leftWithThoseAfter(2 * number + 1);
            leftWithThoseAfter(2 * number + 2);
            left();
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
    Claims.Claim claim() throws InterruptedException {
        return stopped ? null : claims.next(depth.allowed(), roomAtOnce);
    }

    private boolean hasRoom(int slab) throws InterruptedException {
        try {
            return room.openAtOnce(slab) != null;
        } catch (OutOfDeviceMemoryException e) {
            // Whoever needs it meets the same, or there is room by then.
            return false;
        }
    }

    /// A claimed chunk has been read, or never will be.
    void over(Claims.Claim claim) {
        claims.over(claim);
    }

    /// A batch has come to where it belongs without a buffer.
    void done(StagedBatch batch) {
        claims.done(batch);
    }

    /// Queues the copies of a batch that has been read. Its buffer goes back to the pool, which hands it out
    /// again behind them.
    void send(StagedBatch batch, SlabRoom.Target target) {
        claims.done(batch);
        StagingBuffer buffer = batch.takeBuffer().orElseThrow();
        try {
            copier.copy(batch.batch(), buffer, target);
        } catch (RuntimeException | Error e) {
            // Some of the copies may be under way, and no fence behind them.
            staging.drop(buffer);
            throw e;
        }
        staging.releaseBehindCopies(buffer);
    }

    void failed(Throwable cause) {
        stopped = true;
        room.fail(cause);
    }

    void left() {
        if (readersLeft.decrementAndGet() > 0) {
            return;
        }
        try {
            finish();
        } catch (RuntimeException e) {
            // All slabs were handed out, or the caller knows that the load has failed or was closed.
            System.getLogger(ReadPipeline.class.getName()).log(
                    System.Logger.Level.WARNING, "a load to " + device.id() + " left something behind", e);
        } finally {
            drained.countDown();
        }
    }

    private void finish() {
        Cleanup cleanup = new Cleanup();
        cleanup.run(() -> {
            try (Device.Scope scope = device.enter()) {
                giveBack(cleanup);
            }
        });
        // Once more, in case the device could not be entered; nothing is given back twice.
        try {
            giveBack(cleanup);
        } finally {
            cleanup.run(room::drained);
        }
        cleanup.finish();
    }

    private void giveBack(Cleanup cleanup) {
        // Of a load that was stopped, nothing that copies touch may be used again or freed before they are done.
        cleanup.run(() -> copier.finish(stopped));
        if (stopped) {
            for (StagedBatch batch : claims.underWay()) {
                cleanup.run(() -> batch.takeBuffer().ifPresent(staging::release));
            }
        }
    }

    /// Whether a batch goes through a buffer: to a device, unless it is read straight there; on the host, where it is
    /// read directly.
    boolean staged(StagedBatch batch) {
        return device.id().kind() == DeviceId.Kind.CPU ? batch.direct() : !toDevice;
    }

    ReadDepth depth() {
        return depth;
    }

    /// Whether chunks are read straight to the device, with no buffer between.
    boolean toDevice() {
        return toDevice;
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

    LoadStaging staging() {
        return staging;
    }

    StageCounters counters() {
        return counters;
    }
}
