package io.instanttensor.stage;

import io.instanttensor.device.CopyStream;
import io.instanttensor.device.Device;
import io.instanttensor.device.DeviceMemory;
import io.instanttensor.device.Fence;
import io.instanttensor.jfr.CopyEvent;
import io.instanttensor.jfr.Recorder;
import io.instanttensor.plan.Chunk;
import io.instanttensor.plan.Segment;
import io.instanttensor.read.ChunkReader;
import java.io.IOException;
import java.lang.foreign.MemorySegment;

/// One reader: a thread with a copy stream and a few staging buffers of its own, so that a read never
/// waits for the copy before it.
final class Reader implements Runnable {
    private final int number;
    private final ReadPipeline pipeline;
    private final StageCounters counters;

    Reader(int number, ReadPipeline pipeline) {
        this.number = number;
        this.pipeline = pipeline;
        this.counters = pipeline.counters();
    }

    @Override
    public void run() {
        Device device = pipeline.device();
        try (Device.Scope scope = device.enter();
                CopyStream stream = device.openStream();
                StagingRing ring = new StagingRing(pipeline)) {
            moveAll(device, stream, ring);
        } catch (Throwable e) {
            pipeline.failed(e);
        } finally {
            pipeline.left();
        }
    }

    private void moveAll(Device device, CopyStream stream, StagingRing ring) throws IOException, InterruptedException {
        try {
            Chunk chunk = pipeline.claim();
            while (chunk != null && move(chunk, stream, ring)) {
                chunk = pipeline.claim();
            }
        } catch (Throwable e) {
            pipeline.failed(e);
            awaitAll(device, stream);
        }
    }

    /// After a failure there can be copies that no fence stands behind; nothing they touch may be used
    /// again or freed before they are done.
    private static void awaitAll(Device device, CopyStream stream) {
        try (Fence end = device.newFence()) {
            stream.record(end);
            end.await();
        }
    }

    /// Returns false once the load has been stopped.
    private boolean move(Chunk chunk, CopyStream stream, StagingRing ring) throws IOException, InterruptedException {
        ChunkReader file = pipeline.file(chunk.file());
        SlabRoom.Target target = openRoom(chunk.slab(), ring);
        if (target == null) {
            return false;
        }
        // Buffered bytes go straight to where they belong, if the host can write there.
        if (!file.access().direct() && target.memory().hostView().isPresent()) {
            readInto(file, chunk, target);
            target.chunkQueued(number, stream);
            return true;
        }
        StagingBuffer buffer = ring.next();
        if (buffer == null) {
            return false;
        }
        long start = System.nanoTime();
        MemorySegment bytes = file.read(chunk, buffer.memory().segment());
        counters.readNanos.add(System.nanoTime() - start);
        if (pipeline.stopped()) {
            return false;
        }
        copy(chunk, bytes, target, stream);
        stream.record(buffer.copied());
        count(chunk);
        target.chunkQueued(number, stream);
        return true;
    }

    /// Room comes before a buffer, and buffers are given back before a wait for room: it lasts as long as
    /// the caller likes, and what the caller waits for may be a load that needs these buffers.
    private SlabRoom.Target openRoom(int slab, StagingRing ring) throws InterruptedException {
        long start = System.nanoTime();
        SlabRoom.Target target = pipeline.room().tryOpen(slab);
        if (target == null && !pipeline.stopped()) {
            ring.close();
            target = pipeline.room().open(slab);
        }
        counters.slabWaitNanos.add(System.nanoTime() - start);
        return target;
    }

    private void readInto(ChunkReader file, Chunk chunk, SlabRoom.Target target) throws IOException {
        long start = System.nanoTime();
        file.readInto(chunk, target.memory().hostView().orElseThrow());
        counters.readNanos.add(System.nanoTime() - start);
        count(chunk);
    }

    private void copy(Chunk chunk, MemorySegment bytes, SlabRoom.Target target, CopyStream stream) {
        long start = System.nanoTime();
        target.awaitLastUsers(number, stream);
        DeviceMemory memory = target.memory();
        for (Segment segment : chunk.segments()) {
            CopyEvent event = Recorder.beginCopy();
            stream.copy(bytes.asSlice(segment.chunkOffset(), segment.bytes()), memory, segment.slabOffset());
            Recorder.endCopy(event, chunk.slab(), segment.slabOffset(), segment.bytes());
        }
        counters.copyNanos.add(System.nanoTime() - start);
    }

    private void count(Chunk chunk) {
        counters.readBytes.add(chunk.bytes());
        counters.stagedBytes.add(chunk.wantedBytes());
    }
}
