package io.instanttensor.stage;

import io.instanttensor.device.Device;
import io.instanttensor.file.ReadUnderWay;
import io.instanttensor.jfr.Recorder;
import io.instanttensor.jfr.WaitEvent;
import io.instanttensor.plan.Chunk;
import io.instanttensor.read.ChunkReader;
import io.instanttensor.read.ReadMethods;
import java.io.IOException;
import java.util.Optional;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.BooleanSupplier;

/// One reader: a thread that claims chunks and reads them to where their batch, or the host's slab, wants
/// them. Whoever reads the last chunk of a batch sends it on.
final class Reader implements Runnable {
    private final int number;
    private final ReadPipeline pipeline;
    private final StageCounters counters;
    private final BooleanSupplier stopped;
    /// Both since the thread runs.
    private ReadMethods methods;
    private ReadUnderWay reading;
    /// For anything but reads, since the last claim.
    private long waitedNanos;

    Reader(int number, ReadPipeline pipeline) {
        this.number = number;
        this.pipeline = pipeline;
        this.counters = pipeline.counters();
        this.stopped = pipeline::stopped;
    }

    @Override
    public void run() {
        try {
            pipeline.startAfter(number);
            // Closed before it leaves: memory is given back once all have left.
            try (ReadMethods opened = new ReadMethods(); ReadUnderWay told = ReadUnderWay.ofThread()) {
                methods = opened;
                reading = told;
                moveAll();
            }
        } catch (Throwable e) {
            pipeline.failed(e);
        } finally {
            pipeline.left();
        }
    }

    private void moveAll() throws IOException, InterruptedException {
        try (Device.Scope scope = pipeline.device().enter()) {
            while (pipeline.depth().begin(stopped) && moveNext()) {
                // Until there is nothing left to claim.
            }
        }
    }

    /// Returns false once there is nothing left.
    private boolean moveNext() throws IOException, InterruptedException {
        waitedNanos = 0;
        long bytes = 0;
        Claims.Claim claim = null;
        try {
            claim = pipeline.claim();
            if (claim == null) {
                return false;
            }
            bytes = claim.chunk().bytes();
            if (!move(claim.batch(), claim.chunk())) {
                // Its chunk is missing now, whoever has stopped the load.
                pipeline.stop();
            }
            return true;
        } finally {
            if (claim != null) {
                pipeline.over(claim);
            }
            pipeline.readOver(bytes, waitedNanos);
        }
    }

    /// Returns false once the load has been stopped.
    private boolean move(StagedBatch batch, Chunk chunk) throws IOException, InterruptedException {
        ChunkReader file = pipeline.file(chunk.file());
        SlabRoom.Target target = pipeline.room().openAtOnce(chunk.slab());
        // What lies in memory does not come any sooner.
        if (target == null && !pipeline.toDevice() && (pipeline.staged(batch) || !file.access().inMemory())) {
            Optional<StagingBuffer> ahead = batch.openAhead(pipeline.staging());
            if (ahead.isPresent()) {
                return stage(batch, chunk, ahead.get(), null);
            }
        }
        // Room comes before a buffer: it lasts as long as the caller likes, and what the caller waits for
        // may be a load that needs the buffer.
        if (target == null) {
            target = openRoom(chunk.slab());
        }
        if (target == null) {
            return false;
        }
        // Buffered bytes go straight to where they belong, if the host can write there.
        boolean intoHost = !batch.direct() && target.memory().hostView().isPresent() && batch.goStraight();
        if (intoHost || pipeline.toDevice()) {
            if (intoHost) {
                readInto(file, chunk, target);
            } else {
                readToDevice(file, chunk, target);
            }
            if (batch.chunkRead()) {
                pipeline.done(batch);
            }
            target.written(chunk.wantedBytes());
            return true;
        }
        Optional<StagingBuffer> buffer = openBuffer(batch);
        return buffer.isPresent() && stage(batch, chunk, buffer.get(), target);
    }

    /// Reads a chunk into its batch's buffer, and sends the batch where it was the last one.
    ///
    /// @param target null where there is no room yet: storage need not wait for it
    private boolean stage(StagedBatch batch, Chunk chunk, StagingBuffer buffer, SlabRoom.Target target)
            throws IOException, InterruptedException {
        read(pipeline.file(chunk.file()), chunk, buffer);
        if (pipeline.stopped()) {
            return false;
        }
        if (!batch.chunkRead()) {
            return true;
        }
        SlabRoom.Target room = target == null ? openRoom(chunk.slab()) : target;
        if (room == null) {
            return false;
        }
        pipeline.send(batch, room);
        // Behind the copies, so that the wire has something to do meanwhile.
        pipeline.room().openAhead(chunk.slab());
        return true;
    }

    private SlabRoom.Target openRoom(int slab) throws InterruptedException {
        WaitEvent event = Recorder.beginWait();
        long start = System.nanoTime();
        SlabRoom.Target target = pipeline.room().open(slab);
        waited(counters.slabWaitNanos, System.nanoTime() - start);
        Recorder.endWait(event, WaitEvent.For.ROOM);
        return target;
    }

    private Optional<StagingBuffer> openBuffer(StagedBatch batch) throws InterruptedException {
        WaitEvent event = Recorder.beginWait();
        long start = System.nanoTime();
        Optional<StagingBuffer> buffer = batch.open(pipeline.staging(), stopped);
        waited(counters.stagingWaitNanos, System.nanoTime() - start);
        Recorder.endWait(event, WaitEvent.For.STAGING);
        return buffer;
    }

    private void waited(AtomicLong total, long nanos) {
        total.addAndGet(nanos);
        waitedNanos += nanos;
    }

    private void read(ChunkReader file, Chunk chunk, StagingBuffer buffer) throws IOException {
        long start = begin(file, chunk);
        file.read(chunk, buffer.memory().segment(), methods);
        end(chunk, start);
    }

    private void readInto(ChunkReader file, Chunk chunk, SlabRoom.Target target) throws IOException {
        long start = begin(file, chunk);
        file.readInto(chunk, target.memory().hostView().orElseThrow(), methods);
        end(chunk, start);
    }

    private void readToDevice(ChunkReader file, Chunk chunk, SlabRoom.Target target) throws IOException {
        target.awaitLastUsers();
        long start = begin(file, chunk);
        file.readToDevice(chunk, target.memory().address());
        end(chunk, start);
    }

    private long begin(ChunkReader file, Chunk chunk) {
        reading.begin(file.file(), chunk.fileOffset(), chunk.bytes());
        counters.readBegins();
        return System.nanoTime();
    }

    /// Of a read that came back; one that failed is this reader's last.
    private void end(Chunk chunk, long start) {
        reading.end();
        counters.readEnds();
        counters.readNanos.addAndGet(System.nanoTime() - start);
        counters.readBytes.addAndGet(chunk.bytes());
        counters.stagedBytes.addAndGet(chunk.wantedBytes());
    }
}
