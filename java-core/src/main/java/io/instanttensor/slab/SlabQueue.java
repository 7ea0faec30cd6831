package io.instanttensor.slab;

import io.instanttensor.device.ConsumerStream;
import io.instanttensor.device.Device;
import io.instanttensor.device.OutOfDeviceMemoryException;
import io.instanttensor.plan.LoadPlan;
import io.instanttensor.plan.SlabLayout;
import io.instanttensor.stage.Cleanup;
import io.instanttensor.stage.SlabRoom;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/// The slabs of one load, in order: readers fill them, the caller takes them.
///
/// Memory is given to slabs strictly in order. Otherwise a reader that is ahead could take the last of
/// the budget for a slab that nobody may have before the one that now gets none.
public final class SlabQueue implements SlabRoom {
    private final Device device;
    private final MemorySource source;
    private final List<SlabLayout> layouts;
    private final List<Slab> slabs;
    private final Object allocation = new Object();
    private final Object changed = new Object();
    private boolean allocating;
    private int allocated;
    private int taken;
    private volatile boolean stopped;
    private boolean drained;
    private boolean settled;
    private Throwable failure;

    public SlabQueue(LoadPlan plan, Device device, MemorySource source, Reclaimer reclaimer) {
        this.device = device;
        this.source = source;
        this.layouts = plan.slabs();
        this.slabs = new ArrayList<>(layouts.size());
        for (SlabLayout layout : layouts) {
            slabs.add(new Slab(layout, device.id(), source, reclaimer, this::announce));
        }
    }

    @Override
    public Target open(int index) throws InterruptedException {
        return open(slabs.get(index), true);
    }

    @Override
    public Target openAtOnce(int index) throws InterruptedException {
        return open(slabs.get(index), false);
    }

    private Slab open(Slab slab, boolean wait) throws InterruptedException {
        while (!slab.hasMemory()) {
            synchronized (allocation) {
                // Whoever waits here must come back as soon as its own slab has memory, also while
                // another reader is waiting for a later one's: the caller may be waiting for this one.
                while (wait && allocating && !stopped && !slab.hasMemory()) {
                    allocation.wait();
                }
                if (slab.hasMemory()) {
                    break;
                }
                if (allocating || stopped) {
                    return null;
                }
                allocating = true;
            }
            if (!allocateNext(wait)) {
                return null;
            }
        }
        return stopped ? null : slab;
    }

    @Override
    public void openAhead(int index) throws InterruptedException {
        synchronized (allocation) {
            if (allocating || stopped || allocated > index + 1 || allocated == slabs.size()) {
                return;
            }
            allocating = true;
        }
        try {
            allocateNext(false);
        } catch (OutOfDeviceMemoryException e) {
            // Whoever needs it meets the same, or there is room by then.
        }
    }

    /// Gives memory to the first slab that has none; called by the one thread that has set `allocating`.
    private boolean allocateNext(boolean wait) throws InterruptedException {
        try {
            return giveMemory(layouts.get(allocated), slabs.get(allocated), wait);
        } finally {
            synchronized (allocation) {
                allocating = false;
                allocation.notifyAll();
            }
        }
    }

    private boolean giveMemory(SlabLayout layout, Slab next, boolean wait) throws InterruptedException {
        SlabMemory memory = null;
        if (layout.allocationBytes() > 0) {
            memory = source.acquire(layout, wait);
            if (memory == null) {
                return false;
            }
        }
        if (!next.attach(memory)) {
            // Closed meanwhile, by another thread than the one that takes.
            if (memory != null) {
                source.discard(memory);
            }
            return false;
        }
        allocated++;
        return true;
    }

    /// The next slab, once all its copies are queued; `stream` waits for them from now on.
    ///
    /// @return null when the time ran out first, or when there is none left (see [#exhausted])
    /// @throws LoadFailedException with the reader's error as its cause
    public Slab take(ConsumerStream stream, long timeoutMillis) throws InterruptedException {
        if (exhausted()) {
            return null;
        }
        Slab next = slabs.get(taken);
        if (layouts.get(taken).ownBytes() == 0 && open(taken) == null) {
            throw failedOrStopped();
        }
        if (!awaitFilled(next, timeoutMillis)) {
            return null;
        }
        boolean handedOut;
        try {
            handedOut = next.handOut(stream);
        } catch (RuntimeException e) {
            fail(e);
            next.close();
            throw e;
        }
        if (!handedOut) {
            throw failedOrStopped();
        }
        taken++;
        return next;
    }

    public boolean exhausted() {
        return taken == slabs.size();
    }

    private boolean awaitFilled(Slab slab, long timeoutMillis) throws InterruptedException {
        long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(timeoutMillis);
        synchronized (changed) {
            while (failure == null && !stopped && !slab.filled()) {
                long left = TimeUnit.NANOSECONDS.toMillis(deadline - System.nanoTime());
                if (left <= 0) {
                    return false;
                }
                changed.wait(left);
            }
            if (failure != null || stopped) {
                throw failedOrStopped();
            }
            return true;
        }
    }

    private RuntimeException failedOrStopped() {
        synchronized (changed) {
            return failure != null
                    ? new LoadFailedException(failure)
                    : new ClosedException("the load has been closed");
        }
    }

    @Override
    public void fail(Throwable cause) {
        synchronized (changed) {
            if (failure == null) {
                failure = cause;
            }
        }
        stop();
    }

    /// Ends the load: whoever waits here, for room or for a slab, is woken.
    public void stop() {
        stopped = true;
        source.stop();
        synchronized (allocation) {
            allocation.notifyAll();
        }
        announce();
    }

    /// Called on the last reader's thread, inside the device's scope or, where there was no reader, on
    /// the caller's.
    @Override
    public void drained() {
        synchronized (changed) {
            drained = true;
        }
        settleIfOver();
    }

    /// Frees what was not handed out, once nobody copies any more. Safe to call at any time.
    public void settleIfOver() {
        synchronized (changed) {
            if (!drained || !stopped || settled) {
                return;
            }
            settled = true;
        }
        Cleanup cleanup = new Cleanup();
        cleanup.run(() -> {
            try (Device.Scope scope = device.enter()) {
                discardAll(cleanup);
            }
        });
        // Once more, in case the device could not be entered; nothing is given back twice.
        discardAll(cleanup);
        cleanup.finish();
    }

    private void discardAll(Cleanup cleanup) {
        slabs.forEach(slab -> cleanup.run(slab::discard));
        cleanup.run(source::close);
    }

    private void announce() {
        synchronized (changed) {
            changed.notifyAll();
        }
    }
}
