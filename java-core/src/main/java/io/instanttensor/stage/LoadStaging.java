package io.instanttensor.stage;

import java.util.Optional;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BooleanSupplier;

/// One load's share of its device's staging buffers, which are all of one size.
///
/// @param pool of the device
/// @param bufferBytes of each
/// @param limitBytes of buffers in use by all loads, at most
/// @param held how many are being read into, or wait for room
record LoadStaging(StagingPool pool, long bufferBytes, long limitBytes, AtomicInteger held) {
    LoadStaging(StagingPool pool, long bufferBytes, long limitBytes) {
        this(pool, bufferBytes, limitBytes, new AtomicInteger());
    }

    /// For a batch that there is room for.
    ///
    /// @param stopped asked while waiting; empty is returned once it says yes
    Optional<StagingBuffer> acquire(BooleanSupplier stopped) throws InterruptedException {
        return pool.acquire(bufferBytes, limitBytes, held, stopped);
    }

    /// For reading ahead of the room: only where that leaves enough of them to others, and without waiting.
    Optional<StagingBuffer> acquireAhead() {
        return pool.acquireAhead(bufferBytes, limitBytes, held);
    }

    /// Takes a buffer back that nobody copies from.
    void release(StagingBuffer buffer) {
        held.decrementAndGet();
        pool.release(buffer);
    }

    /// Takes a buffer back whose fence stands behind the copies from it.
    void releaseBehindCopies(StagingBuffer buffer) {
        held.decrementAndGet();
        pool.releaseBehindCopies(buffer);
    }

    /// Takes a buffer back that cannot be used again; freeing it waits for the device.
    void drop(StagingBuffer buffer) {
        held.decrementAndGet();
        pool.drop(buffer);
    }
}
