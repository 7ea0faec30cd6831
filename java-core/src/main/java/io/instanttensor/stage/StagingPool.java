package io.instanttensor.stage;

import io.instanttensor.device.Device;
import io.instanttensor.device.DeviceException;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.LockSupport;
import java.util.function.BooleanSupplier;

/// The pinned memory of one device, shared by all its loads and kept for the next one: pinning
/// all of it takes 14 ms, as long as loading 700 MB.
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
    // Lists, gone through by index: readers ask so often that iterators were a seventh of what the garbage collector
    // had to do.
    /// The last to be given back is the next to be taken: most of it is in the processor's cache.
    private final List<StagingBuffer> idle = new ArrayList<>();
    /// Given back, but the copies from it may still be under way.
    private final List<StagingBuffer> copying = new ArrayList<>();
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
    /// @param held how many the load has; one more from now on. Others may keep theirs for as long as their callers
    ///     like, so a load that has none gets one beyond the limit, if that is not exceeded already
    /// @param stopped asked while waiting; empty is returned once it says yes
    Optional<StagingBuffer> acquire(long bytes, long limitBytes, AtomicInteger held, BooleanSupplier stopped)
            throws InterruptedException {
        while (!stopped.getAsBoolean()) {
            Turn turn;
            synchronized (this) {
                collect();
                boolean beyond = held.get() == 0 && copying.isEmpty() && pinnedBytes <= LIMIT_BYTES;
                Optional<StagingBuffer> found = takeIdle(bytes, beyond ? Long.MAX_VALUE : limitBytes);
                if (found.isPresent()) {
                    held.incrementAndGet();
                    return found;
                }
                turn = beyond ? makeBeyond(bytes) : nextTurn(bytes, limitBytes);
                if (turn == Turn.MAKE) {
                    held.incrementAndGet();
                } else if (turn == Turn.WAIT) {
                    TimeUnit.MILLISECONDS.timedWait(this, STOP_CHECK_MILLIS);
                }
            }
            if (turn == Turn.MAKE) {
                return Optional.of(makeHeld(bytes, held));
            }
            if (turn == Turn.WATCH) {
                watch(stopped);
            }
        }
        return Optional.empty();
    }

    /// A buffer for reading ahead; none where only few are left, or where it would take a wait.
    ///
    /// @param held how many the load has; one more, if there is one
    Optional<StagingBuffer> acquireAhead(long bytes, long limitBytes, AtomicInteger held) {
        synchronized (this) {
            collect();
            if (closed || pinnedBytes - idleBytes() + (1 + NOT_AHEAD) * bytes > limitBytes) {
                return Optional.empty();
            }
            Optional<StagingBuffer> found = takeIdle(bytes, limitBytes);
            if (found.isEmpty() && pinnedBytes + bytes > LIMIT_BYTES) {
                return found;
            }
            held.incrementAndGet();
            if (found.isPresent()) {
                return found;
            }
            pinnedBytes += bytes;
        }
        return Optional.of(makeHeld(bytes, held));
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
        requireOpen();
        if (hasRoom(bytes, limitBytes)) {
            makeRoom(bytes);
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
        for (int i = 0; i < idle.size(); i++) {
            sum += idle.get(i).bytes();
        }
        return sum;
    }

    private Turn makeBeyond(long bytes) {
        requireOpen();
        makeRoom(bytes);
        pinnedBytes += bytes;
        return Turn.MAKE;
    }

    /// Frees what nobody uses, of another size than the one that is wanted.
    private void makeRoom(long bytes) {
        while (pinnedBytes + bytes > LIMIT_BYTES && !idle.isEmpty()) {
            free(idle.removeLast());
        }
    }

    private void requireOpen() {
        if (closed) {
            throw new IllegalStateException("the staging pool of " + device.id() + " is closed");
        }
    }

    private Optional<StagingBuffer> takeIdle(long bytes, long limitBytes) {
        if (!hasRoom(bytes, limitBytes)) {
            return Optional.empty();
        }
        for (int i = idle.size() - 1; i >= 0; i--) {
            if (idle.get(i).bytes() == bytes) {
                return Optional.of(idle.remove(i));
            }
        }
        return Optional.empty();
    }

    /// Finds the buffers that nobody copies from any more.
    ///
    /// @return whether there were any
    private boolean collect() {
        boolean found = false;
        int i = 0;
        while (i < copying.size()) {
            StagingBuffer buffer = copying.get(i);
            boolean passed;
            try {
                passed = buffer.copied().passed();
            } catch (DeviceException e) {
                // Nobody can tell when; freeing it waits for the device.
                copying.remove(i);
                free(buffer);
                throw e;
            }
            if (passed) {
                copying.remove(i);
                keep(buffer);
                found = true;
            } else {
                i++;
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

    /// The same of one that its load counts already.
    private StagingBuffer makeHeld(long bytes, AtomicInteger held) {
        try {
            return make(bytes);
        } catch (RuntimeException | Error e) {
            held.decrementAndGet();
            throw e;
        }
    }

    /// Takes a buffer back that nobody copies from.
    synchronized void release(StagingBuffer buffer) {
        keep(buffer);
        notifyAll();
    }

    /// For the next who wants one; what went beyond the limit is not kept.
    private void keep(StagingBuffer buffer) {
        if (closed || pinnedBytes > LIMIT_BYTES && pinnedBytes > buffer.bytes()) {
            free(buffer);
        } else {
            idle.add(buffer);
        }
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
            StagingBuffer buffer = idle.removeLast();
            cleanup.run(() -> free(buffer));
        }
        notifyAll();
        cleanup.finish();
    }
}
