package io.instanttensor.stage;

import io.instanttensor.device.DeviceException;
import io.instanttensor.read.ChunkReader;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/// The staging buffers of one reader, used in turn. It takes a new one only while all it has are busy,
/// so a small load pins little.
final class StagingRing implements AutoCloseable {
    private final ReadPipeline pipeline;
    private final long bufferBytes;
    private final List<StagingBuffer> buffers = new ArrayList<>();
    private int turn;

    StagingRing(ReadPipeline pipeline) {
        this.pipeline = pipeline;
        this.bufferBytes = ChunkReader.bufferBytes(pipeline.settings().chunkBytes());
    }

    /// A buffer that nobody copies from any more; null once the load has been stopped.
    StagingBuffer next() throws InterruptedException {
        long start = System.nanoTime();
        StagingBuffer buffer = grow();
        if (buffer == null && !buffers.isEmpty()) {
            turn = (turn + 1) % buffers.size();
            buffer = buffers.get(turn);
            buffer.copied().await();
        }
        pipeline.counters().stagingWaitNanos.add(System.nanoTime() - start);
        return buffer;
    }

    private StagingBuffer grow() throws InterruptedException {
        int next = buffers.isEmpty() ? 0 : (turn + 1) % buffers.size();
        boolean free = !buffers.isEmpty() && buffers.get(next).copied().passed();
        if (free || buffers.size() >= pipeline.settings().buffersPerReader()) {
            return null;
        }
        // With one buffer a reader gets on; only for that one is it worth waiting.
        Optional<StagingBuffer> more = buffers.isEmpty()
                ? pipeline.staging().acquire(bufferBytes, pipeline::stopped)
                : pipeline.staging().tryAcquire(bufferBytes);
        more.ifPresent(buffer -> {
            turn = buffers.isEmpty() ? 0 : turn + 1;
            buffers.add(turn, buffer);
        });
        return more.orElse(null);
    }

    /// Gives the buffers back once their copies have passed; the pool frees those of which nobody can
    /// tell. The ring can be used again.
    @Override
    public void close() {
        Cleanup cleanup = new Cleanup();
        for (StagingBuffer buffer : buffers) {
            cleanup.run(() -> giveBack(buffer));
        }
        buffers.clear();
        cleanup.finish();
    }

    private void giveBack(StagingBuffer buffer) {
        try {
            buffer.copied().await();
        } catch (DeviceException e) {
            pipeline.staging().drop(buffer);
            throw e;
        }
        pipeline.staging().release(buffer);
    }
}
