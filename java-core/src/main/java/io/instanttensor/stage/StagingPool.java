package io.instanttensor.stage;

import io.instanttensor.device.Device;
import io.instanttensor.device.DeviceException;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Iterator;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.function.BooleanSupplier;

/// The pinned memory of one device, shared by all its loads and kept for the next one: pinning
/// all of it takes 16 ms, as long as loading 1 GB.
///
/// Every thread that calls has the device's scope open, but for [#pin].
public final class StagingPool implements AutoCloseable {
    /// What all loads on a device together may pin: twelve batches. Of these three or four are being read,
    /// the others wait for the wire; ten were as fast where nothing disturbed them.
    public static final long LIMIT_BYTES = 98L << 20;
    /// What each of several processes of a machine takes for a load. Two that took all of it wrote 196 MiB over and
    /// over: more than a processor's cache keeps, and all of it passed through memory once more. With 48 MiB each
    /// they read 90 GB/s in place of 60.
    private static final long SHARED_BYTES = 49L << 20;
    /// Buffers that are left to those who have room: whoever reads ahead keeps a buffer for as long as the caller
    /// likes, and what the caller waits for may be a load that needs one.
    private static final int NOT_AHEAD = 2;
    private static final long STOP_CHECK_MILLIS = 50;
    /// A batch takes 150 µs on the wire, and several lie in wait. Blocking in the driver instead costs an
    /// interrupt for each, and 2 % of the speed.
    private static final long POLL_NANOS = 20_000;

    private final Device device;
    private final Deque<StagingBuffer> idle = new ArrayDeque<>();
    /// Given back, but the copies from it may still be under way.
    private final Deque<StagingBuffer> copying = new ArrayDeque<>();
    private long pinnedBytes;
    private boolean watched;
    private boolean closed;

    public StagingPool(Device device) {
        this.device = device;
    }

    /// What a load may have in use.
    ///
    /// @param processes of this machine that load together
    public static long limitBytes(int processes) {
        return processes == 1 ? LIMIT_BYTES : SHARED_BYTES;
    }

    /// What so many buffers take within the limit; a single one may exceed it.
    public static long bytes(int buffers, long bytes, long limitBytes) {
        return buffers == 0 ? 0 : bytes * Math.clamp(limitBytes / bytes, 1, buffers);
    }

    /// Pins buffers, for a load that is about to start.
    ///
    /// @param buffers how many there shall be, busy ones included
    public void pin(int buffers, long bytes, long limitBytes) {
        try (Device.Scope scope = device.enter()) {
            while (true) {
                synchronized (this) {
                    if (closed || pinnedBytes + bytes > Math.min(limitBytes, buffers * bytes)) {
                        return;
                    }
                    pinnedBytes += bytes;
                }
                release(make(bytes));
            }
        }
    }

    /// A buffer that nobody copies from any more, as soon as there is one. Whoever holds the others waits for
    /// nothing but reads.
    ///
    /// @param limitBytes of buffers in use, at which there is none; a single one may exceed it
    /// @param stopped asked while waiting; empty is returned once it says yes
    Optional<StagingBuffer> acquire(long bytes, long limitBytes, BooleanSupplier stopped) throws InterruptedException {
        while (!stopped.getAsBoolean()) {
            Turn turn;
            synchronized (this) {
                Optional<StagingBuffer> found = takeIdle(bytes, limitBytes);
                if (found.isPresent()) {
                    return found;
                }
                turn = nextTurn(bytes, limitBytes);
                if (turn == Turn.WAIT) {
                    TimeUnit.MILLISECONDS.timedWait(this, STOP_CHECK_MILLIS);
                }
            }
            if (turn == Turn.MAKE) {
                return Optional.of(make(bytes));
            }
            if (turn == Turn.WATCH) {
                watch(stopped);
            }
        }
        return Optional.empty();
    }

    /// A buffer for reading ahead; none where only few are left, or where it would take a wait.
    Optional<StagingBuffer> acquireAhead(long bytes, long limitBytes) {
        synchronized (this) {
            collect();
            if (closed || pinnedBytes - idleBytes() + (1 + NOT_AHEAD) * bytes > limitBytes) {
                return Optional.empty();
            }
            Optional<StagingBuffer> found = takeIdle(bytes, limitBytes);
            if (found.isPresent() || pinnedBytes + bytes > LIMIT_BYTES) {
                return found;
            }
            pinnedBytes += bytes;
        }
        return Optional.of(make(bytes));
    }

    /// What a thread does that found no idle buffer.
    private enum Turn {
        /// Pin one more.
        MAKE,
        /// Look when the next copies are done, for all who wait.
        WATCH,
        /// Somebody else looks, or all buffers are being read into.
        WAIT
    }

    private Turn nextTurn(long bytes, long limitBytes) {
        if (closed) {
            throw new IllegalStateException("the staging pool of " + device.id() + " is closed");
        }
        if (hasRoom(bytes, limitBytes)) {
            while (pinnedBytes + bytes > LIMIT_BYTES && !idle.isEmpty()) {
                free(idle.pop());
            }
            // A load that uses larger buffers than the limit allows still gets one.
            if (pinnedBytes == 0 || pinnedBytes + bytes <= LIMIT_BYTES) {
                pinnedBytes += bytes;
                return Turn.MAKE;
            }
        }
        if (watched || copying.isEmpty()) {
            return Turn.WAIT;
        }
        watched = true;
        return Turn.WATCH;
    }

    /// Whether so many bytes more may be in use.
    private boolean hasRoom(long bytes, long limitBytes) {
        long busyBytes = pinnedBytes - idleBytes();
        return busyBytes == 0 || busyBytes + bytes <= limitBytes;
    }

    private long idleBytes() {
        long sum = 0;
        for (StagingBuffer buffer : idle) {
            sum += buffer.bytes();
        }
        return sum;
    }

    private Optional<StagingBuffer> takeIdle(long bytes, long limitBytes) {
        collect();
        if (!hasRoom(bytes, limitBytes)) {
            return Optional.empty();
        }
        for (Iterator<StagingBuffer> all = idle.iterator(); all.hasNext(); ) {
            StagingBuffer buffer = all.next();
            if (buffer.bytes() == bytes) {
                all.remove();
                return Optional.of(buffer);
            }
        }
        return Optional.empty();
    }

    /// Finds the buffers that nobody copies from any more.
    ///
    /// @return whether there were any
    private boolean collect() {
        boolean found = false;
        for (Iterator<StagingBuffer> all = copying.iterator(); all.hasNext(); ) {
            StagingBuffer buffer = all.next();
            boolean passed;
            try {
                passed = buffer.copied().passed();
            } catch (DeviceException e) {
                // Nobody can tell when; freeing it waits for the device.
                all.remove();
                free(buffer);
                throw e;
            }
            if (passed) {
                all.remove();
                idle.push(buffer);
                found = true;
            }
        }
        if (found) {
            notifyAll();
        }
        return found;
    }

    private void watch(BooleanSupplier stopped) {
        boolean found = false;
        try {
            while (!found && !stopped.getAsBoolean()) {
                LockSupport.parkNanos(POLL_NANOS);
                synchronized (this) {
                    // Another thread may have collected, and taken only one.
                    found = collect() || !idle.isEmpty() || copying.isEmpty();
                }
            }
        } finally {
            synchronized (this) {
                watched = false;
                notifyAll();
            }
        }
    }

    /// Makes a buffer that has been counted already. Outside the lock: pinning takes long, and several
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

    /// Takes a buffer back that nobody copies from.
    synchronized void release(StagingBuffer buffer) {
        if (closed) {
            free(buffer);
        } else {
            idle.push(buffer);
        }
        notifyAll();
    }

    /// Takes a buffer back whose fence stands behind the copies from it.
    synchronized void releaseBehindCopies(StagingBuffer buffer) {
        if (closed) {
            free(buffer);
        } else {
            copying.add(buffer);
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
        idle.addAll(copying);
        copying.clear();
        while (!idle.isEmpty()) {
            StagingBuffer buffer = idle.pop();
            cleanup.run(() -> free(buffer));
        }
        notifyAll();
        cleanup.finish();
    }
}
