package io.instanttensor.slab;

import io.instanttensor.device.Device;
import io.instanttensor.plan.SlabBudget;
import io.instanttensor.plan.SlabLayout;
import io.instanttensor.stage.Cleanup;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Iterator;

/// Slab memory of one load, within its budget.
///
/// The budget counts what no view refers to: idle, being filled, and filled. Memory that was handed out
/// has left it, so a caller who keeps every tensor does not stop the load; when it comes back it is
/// used again if the budget has room for it, and freed if not. Room is left for what was handed out last, which most
/// callers give back soon: to free memory for each slab and to allocate as much takes a GPU's driver so long that
/// copies meanwhile run at half their rate, and two H200s loaded 61 GB/s together in place of 82.
///
/// Every thread that calls has the device's scope open.
public final class SlabPool implements MemorySource {
    /// Sizes are rounded up to this part of a full slab, so that memory that comes back fits the next.
    private static final int SIZE_STEPS = 16;
    /// No room is left where it would leave fewer slabs than these to readers.
    private static final int ALWAYS_BUSY = 2;

    private final Device device;
    private final SlabBudget budget;
    private final boolean severalSlabs;
    private final Deque<SlabMemory> idle = new ArrayDeque<>();
    /// Handed out last, and not back.
    private final Deque<SlabMemory> expected = new ArrayDeque<>();
    /// How many are being filled, or filled.
    private int busy;
    private long ownBytes;
    private long peakOwnBytes;
    private boolean stopped;
    private boolean closed;

    /// @param severalSlabs whether the load has more than one; a single one takes no more than it needs
    public SlabPool(Device device, SlabBudget budget, boolean severalSlabs) {
        this.device = device;
        this.budget = budget;
        this.severalSlabs = severalSlabs;
    }

    @Override
    public SlabMemory acquire(SlabLayout layout, boolean wait) throws InterruptedException {
        long needed = layout.allocationBytes();
        long capacity = capacityFor(layout);
        synchronized (this) {
            while (true) {
                if (stopped) {
                    return null;
                }
                SlabMemory fitting = takeIdle(needed, layout.placements().size() == 1 ? needed : capacity * 2);
                if (fitting != null) {
                    busy++;
                    return fitting;
                }
                if (hasRoom(capacity)) {
                    busy++;
                    ownBytes += capacity;
                    peakOwnBytes = Math.max(peakOwnBytes, ownBytes);
                    break;
                }
                if (!idle.isEmpty()) {
                    free(idle.pop());
                } else if (wait) {
                    wait();
                } else {
                    return null;
                }
            }
        }
        try {
            return new SlabMemory(device, device.allocate(capacity));
        } catch (RuntimeException | Error e) {
            synchronized (this) {
                busy--;
                ownBytes -= capacity;
                notifyAll();
            }
            throw e;
        }
    }

    private boolean hasRoom(long bytes) {
        // A tensor larger than the cap waits until nothing else is held, and takes what it needs.
        return ownBytes == 0 || ownBytes + (busy < ALWAYS_BUSY ? 0 : expectedBytes()) + bytes <= budget.capBytes();
    }

    private long expectedBytes() {
        long sum = 0;
        for (SlabMemory memory : expected) {
            sum += memory.memory().bytes();
        }
        return sum;
    }

    /// A single tensor gets storage of exactly its size; it may be handed out as it is.
    private long capacityFor(SlabLayout layout) {
        long needed = layout.allocationBytes();
        if (layout.placements().size() == 1 || !severalSlabs) {
            return needed;
        }
        long step = Math.max(1, budget.slabBytes() / SIZE_STEPS);
        return Math.min(Math.ceilDiv(needed, step) * step, Math.max(needed, budget.slabBytes()));
    }

    private SlabMemory takeIdle(long minBytes, long maxBytes) {
        for (Iterator<SlabMemory> all = idle.iterator(); all.hasNext(); ) {
            SlabMemory candidate = all.next();
            long bytes = candidate.memory().bytes();
            if (bytes >= minBytes && bytes <= maxBytes) {
                all.remove();
                return candidate;
            }
        }
        return null;
    }

    @Override
    public synchronized void handedOut(SlabMemory memory) {
        busy--;
        ownBytes -= memory.memory().bytes();
        expected.add(memory);
        if (expected.size() > budget.handedOut()) {
            expected.remove();
        }
        notifyAll();
    }

    @Override
    public synchronized void giveBack(SlabMemory memory) {
        long bytes = memory.memory().bytes();
        expected.remove(memory);
        if (closed || ownBytes + bytes > budget.capBytes()) {
            memory.free();
        } else {
            ownBytes += bytes;
            peakOwnBytes = Math.max(peakOwnBytes, ownBytes);
            idle.add(memory);
        }
        // Also where it is freed: its room is nobody's any more.
        notifyAll();
    }

    @Override
    public synchronized void discard(SlabMemory memory) {
        busy--;
        free(memory);
        notifyAll();
    }

    private void free(SlabMemory memory) {
        ownBytes -= memory.memory().bytes();
        memory.free();
    }

    /// The most that the load held for itself at any time.
    public synchronized long peakOwnBytes() {
        return peakOwnBytes;
    }

    @Override
    public synchronized void stop() {
        stopped = true;
        notifyAll();
    }

    @Override
    public synchronized void close() {
        stopped = true;
        closed = true;
        Cleanup cleanup = new Cleanup();
        while (!idle.isEmpty()) {
            SlabMemory memory = idle.pop();
            cleanup.run(() -> free(memory));
        }
        notifyAll();
        cleanup.finish();
    }
}
