package io.instanttensor.stage;

import io.instanttensor.device.Device;
import io.instanttensor.posix.EngineThreads;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Iterator;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;

/// The pinned memory of one device, shared by all its loads and kept for the next one: pinning
/// 96 MiB takes 40 ms, as long as loading 2 GB.
///
/// Every thread that calls has the device's scope open.
public final class StagingPool implements AutoCloseable {
    /// What all loads on a device together may pin. We promise 128 MiB; the driver rounds up.
    public static final long LIMIT_BYTES = 120L << 20;
    private static final long STOP_CHECK_MILLIS = 50;

    private final Device device;
    private final Deque<StagingBuffer> idle = new ArrayDeque<>();
    private long pinnedBytes;
    private boolean closed;

    public StagingPool(Device device) {
        this.device = device;
    }

    /// What so many buffers take within the limit; a single one may exceed it.
    public static long bytes(int buffers, long bytes) {
        return buffers == 0 ? 0 : bytes * Math.clamp(LIMIT_BYTES / bytes, 1, buffers);
    }

    /// Pins buffers in the background, for a load that is about to start.
    ///
    /// @param buffers how many there shall be, busy ones included
    public void prepare(int buffers, long bytes) {
        EngineThreads.builder().name("instanttensor-pinning").start(() -> {
            try (Device.Scope scope = device.enter()) {
                pin(buffers, bytes);
            } catch (RuntimeException e) {
                // The load will meet the same, and somebody who wants to know of it.
                System.getLogger(StagingPool.class.getName()).log(System.Logger.Level.DEBUG, "not pinned", e);
            }
        });
    }

    private void pin(int buffers, long bytes) {
        while (true) {
            synchronized (this) {
                if (closed || pinnedBytes + bytes > Math.min(LIMIT_BYTES, buffers * bytes)) {
                    return;
                }
                pinnedBytes += bytes;
            }
            release(make(bytes));
        }
    }

    /// A buffer, as soon as there is one. Those who hold the others are busy: whoever has to wait for
    /// something else than the device gives his back first.
    ///
    /// @param stopped asked while waiting; empty is returned once it says yes
    Optional<StagingBuffer> acquire(long bytes, BooleanSupplier stopped) throws InterruptedException {
        while (!stopped.getAsBoolean()) {
            Optional<StagingBuffer> buffer = tryAcquire(bytes);
            if (buffer.isPresent()) {
                return buffer;
            }
            synchronized (this) {
                TimeUnit.MILLISECONDS.timedWait(this, STOP_CHECK_MILLIS);
            }
        }
        return Optional.empty();
    }

    /// A buffer if that does not pin more than the limit. A load that uses larger buffers than the limit
    /// allows to have two of still gets one.
    Optional<StagingBuffer> tryAcquire(long bytes) {
        synchronized (this) {
            if (closed) {
                throw new IllegalStateException("the staging pool of " + device.id() + " is closed");
            }
            for (Iterator<StagingBuffer> all = idle.iterator(); all.hasNext(); ) {
                StagingBuffer buffer = all.next();
                if (buffer.bytes() == bytes) {
                    all.remove();
                    return Optional.of(buffer);
                }
            }
            while (pinnedBytes + bytes > LIMIT_BYTES && !idle.isEmpty()) {
                free(idle.pop());
            }
            if (pinnedBytes != 0 && pinnedBytes + bytes > LIMIT_BYTES) {
                return Optional.empty();
            }
            pinnedBytes += bytes;
        }
        return Optional.of(make(bytes));
    }

    /// Makes a buffer that has been counted already. Outside the lock: pinning takes long, and sixteen
    /// readers do it at once.
    private StagingBuffer make(long bytes) {
        try {
            return new StagingBuffer(device, bytes);
        } catch (RuntimeException | Error e) {
            synchronized (this) {
                pinnedBytes -= bytes;
                notifyAll();
            }
            throw e;
        }
    }

    /// Takes a buffer back. Its last copy has passed.
    synchronized void release(StagingBuffer buffer) {
        if (closed) {
            free(buffer);
        } else {
            idle.push(buffer);
        }
        notifyAll();
    }

    /// Takes a buffer back that cannot be used again; freeing it waits for the device.
    synchronized void drop(StagingBuffer buffer) {
        free(buffer);
        notifyAll();
    }

    /// What is pinned at the moment, in use or not.
    public synchronized long pinnedBytes() {
        return pinnedBytes;
    }

    private void free(StagingBuffer buffer) {
        pinnedBytes -= buffer.bytes();
        buffer.free();
    }

    @Override
    public synchronized void close() {
        closed = true;
        Cleanup cleanup = new Cleanup();
        while (!idle.isEmpty()) {
            StagingBuffer buffer = idle.pop();
            cleanup.run(() -> free(buffer));
        }
        notifyAll();
        cleanup.finish();
    }
}
