package io.instanttensor.slab;

import io.instanttensor.device.Device;
import io.instanttensor.posix.EngineThreads;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

/// The thread that takes slabs back, one for each device.
///
/// A slab is dropped on whatever thread drops its last view, often with Python's lock held, sometimes
/// while the interpreter ends: there it is only queued. Fences are recorded and memory is freed here.
public final class Reclaimer {
    private final Device device;
    private final LinkedBlockingQueue<Runnable> queue = new LinkedBlockingQueue<>();
    private final AtomicLong offered = new AtomicLong();
    private long reclaimed;

    public Reclaimer(Device device) {
        this.device = device;
    }

    /// Starts the thread; it lives as long as the process.
    public void start() {
        EngineThreads.builder().name("instanttensor-reclaimer-" + device.id()).start(this::run);
    }

    /// Queues a slab. Never blocks.
    void offer(Slab slab) {
        offer(() -> reclaim(slab));
    }

    /// Queues what gives memory back and takes its time: freeing eight slabs of a GPU takes milliseconds.
    public void offer(Runnable giveBack) {
        offered.incrementAndGet();
        queue.add(giveBack);
    }

    /// Waits until all that has been offered so far is back; for callers that want to see memory flat.
    ///
    /// @return false where the time ran out first
    public synchronized boolean awaitIdle(long timeoutMillis) throws InterruptedException {
        long target = offered.get();
        long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(timeoutMillis);
        while (reclaimed < target) {
            long left = TimeUnit.NANOSECONDS.toMillis(deadline - System.nanoTime());
            if (left <= 0) {
                return false;
            }
            wait(left);
        }
        return true;
    }

    private void run() {
        while (true) {
            try {
                Runnable next = queue.take();
                try {
                    next.run();
                } finally {
                    countReclaimed();
                }
            } catch (InterruptedException e) {
                return;
            } catch (RuntimeException | Error e) {
                // It is not used again, which is better than memory used again too early. Nobody waits
                // for this slab; the load that it came from may be long over.
                // Named here, as everywhere: the first logger of a process takes the JVM 30 ms to make.
                System.getLogger(Reclaimer.class.getName()).log(
                        System.Logger.Level.WARNING, "memory on " + device.id() + " could not be given back", e);
            }
        }
    }

    private void reclaim(Slab slab) {
        try (Device.Scope scope = enterFor(slab)) {
            slab.reclaim();
        }
    }

    private Device.Scope enterFor(Slab slab) {
        try {
            return device.enter();
        } catch (RuntimeException e) {
            slab.lose();
            throw e;
        }
    }

    private synchronized void countReclaimed() {
        reclaimed++;
        notifyAll();
    }
}
