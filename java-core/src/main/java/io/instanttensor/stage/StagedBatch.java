package io.instanttensor.stage;

import io.instanttensor.plan.Batch;
import io.instanttensor.plan.Chunk;
import java.util.Iterator;
import java.util.Optional;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BooleanSupplier;

/// A batch under way: the buffer that its chunks are read into, and how many are missing.
final class StagedBatch {
    private final Batch batch;
    private final boolean cached;
    private final boolean direct;
    private final Iterator<Chunk> chunks;
    private final AtomicInteger chunksLeft;
    private StagingBuffer buffer;
    private boolean straight;

    /// @param cached whether the page cache holds all of it, of files of which it holds parts
    /// @param direct whether any of its chunks is read directly
    StagedBatch(Batch batch, boolean cached, boolean direct) {
        this.batch = batch;
        this.cached = cached;
        this.direct = direct;
        this.chunks = batch.chunks().iterator();
        this.chunksLeft = new AtomicInteger(batch.chunks().size());
    }

    Batch batch() {
        return batch;
    }

    /// Whether any of its chunks has not been claimed. By one thread at a time, as [#next].
    boolean hasNext() {
        return chunks.hasNext();
    }

    Chunk next() {
        return chunks.next();
    }

    /// Whether it is in the page cache, and read from there.
    boolean cached() {
        return cached;
    }

    /// Whether any of its chunks is read directly: then all of them go through the buffer, wherever they go.
    boolean direct() {
        return direct;
    }

    /// The buffer. The first reader that asks gets one from the pool, the others wait for that; then all of
    /// them read, and nothing keeps the buffer from the pool for longer than reads take.
    ///
    /// @param stopped asked while waiting; empty is returned once it says yes
    synchronized Optional<StagingBuffer> open(LoadStaging staging, BooleanSupplier stopped)
            throws InterruptedException {
        if (buffer == null) {
            buffer = staging.acquire(stopped).orElse(null);
        }
        return Optional.ofNullable(buffer);
    }

    /// The same for reads that come before there is room for what they bring: a buffer is taken only where that
    /// leaves enough of them to others, and without waiting.
    synchronized Optional<StagingBuffer> openAhead(LoadStaging staging) {
        if (buffer == null && !straight) {
            buffer = staging.acquireAhead().orElse(null);
        }
        return Optional.ofNullable(buffer);
    }

    /// Decides, for all its chunks, that they go straight to the host's slab; not where one has gone ahead.
    synchronized boolean goStraight() {
        straight = buffer == null;
        return straight;
    }

    /// One more chunk lies in the buffer.
    ///
    /// @return whether it was the last
    boolean chunkRead() {
        return chunksLeft.decrementAndGet() == 0;
    }

    /// Takes the buffer out, for whoever gives it back; empty where there is none.
    synchronized Optional<StagingBuffer> takeBuffer() {
        Optional<StagingBuffer> taken = Optional.ofNullable(buffer);
        buffer = null;
        return taken;
    }
}
