package io.instanttensor.bridge;

import static java.lang.foreign.ValueLayout.JAVA_LONG;

import io.instanttensor.Load;
import io.instanttensor.LoadStats;
import io.instanttensor.dlpack.ManagedTensors;
import io.instanttensor.plan.SlabLayout;
import io.instanttensor.slab.Slab;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.List;

/// A load as Python sees it.
public final class PythonLoad {
    /// No slab yet.
    public static final long NOT_YET = -1;
    /// No slab any more.
    public static final long EXHAUSTED = -2;
    /// A slab without a byte.
    public static final long EMPTY = 0;

    private final Load load;
    private final Arena arena = Arena.ofShared();
    private final long layoutAddress;
    private Slab previous;
    private Slab current;
    private boolean closed;

    /// Takes the load over; where that fails, the load is closed.
    PythonLoad(Load load) {
        this.load = load;
        try {
            this.layoutAddress = writeLayout(load.plan().slabs());
        } catch (RuntimeException | Error e) {
            arena.close();
            load.close();
            throw e;
        }
        OwnHeap.loadBegins();
    }

    /// Slab by slab: how many tensors it holds, its bytes, the bytes it takes in memory; then, tensor by
    /// tensor, its offset in its slab. All 64-bit.
    private long writeLayout(List<SlabLayout> slabs) {
        int tensors = slabs.stream().mapToInt(slab -> slab.placements().size()).sum();
        // On the heap first: every access to memory outside is a call.
        long[] numbers = new long[1 + 3 * slabs.size()];
        int number = 0;
        numbers[number++] = slabs.size();
        for (SlabLayout slab : slabs) {
            numbers[number++] = slab.placements().size();
            numbers[number++] = slab.bytes();
            numbers[number++] = slab.allocationBytes();
        }
        MemorySegment layout = arena.allocate(JAVA_LONG, (long) numbers.length + tensors);
        MemorySegment.copy(numbers, 0, layout, JAVA_LONG, 0, numbers.length);
        long at = numbers.length;
        for (SlabLayout slab : slabs) {
            slab.placements().copyOffsets(layout, at);
            at += slab.placements().size();
        }
        return layout.address();
    }

    public long layoutAddress() {
        return layoutAddress;
    }

    /// The next slab: the address of its DLManagedTensor, or one of the constants.
    ///
    /// @param stream of the caller, as a number; it waits for the slab's bytes from now on
    public long poll(long stream, long timeoutMillis) throws InterruptedException {
        if (load.exhausted()) {
            return EXHAUSTED;
        }
        Slab slab = load.poll(stream, timeoutMillis);
        if (slab == null) {
            return NOT_YET;
        }
        previous = current;
        current = slab;
        if (slab.allocationBytes() == 0) {
            return EMPTY;
        }
        try {
            return ManagedTensors.export(slab);
        } catch (RuntimeException | Error e) {
            slab.close();
            throw e;
        }
    }

    /// Like [#poll] for memory of the caller's: there is nothing to export.
    ///
    /// @return EMPTY for a slab that has arrived, or one of the other constants
    public long pollInto(long stream, long timeoutMillis) throws InterruptedException {
        if (load.exhausted()) {
            return EXHAUSTED;
        }
        Slab slab = load.poll(stream, timeoutMillis);
        if (slab == null) {
            return NOT_YET;
        }
        slab.close();
        return EMPTY;
    }

    /// Lets one more stream use the slabs that the last two polls returned: ranks that load together are one ahead of
    /// the caller.
    public void alsoOn(long stream) {
        if (previous != null) {
            load.alsoOn(previous, stream);
        }
        load.alsoOn(current, stream);
    }

    public long stagedBytes() {
        return load.stagedBytes();
    }

    /// Whether nothing of this load can write to memory any more.
    public boolean drained(long timeoutMillis) throws InterruptedException {
        return load.drained(timeoutMillis);
    }

    /// The numbers of [LoadStats], in the order of its components.
    public double[] stats() {
        LoadStats stats = load.stats();
        return new double[] {
            stats.wantedBytes(), stats.readBytes(), stats.slabs(), stats.seconds(), stats.planSeconds(),
            stats.readSeconds(), stats.stagingWaitSeconds(), stats.slabWaitSeconds(), stats.copySeconds(),
            stats.callerWaitSeconds(),
            stats.capBytes(), stats.peakBytes(), stats.pinnedBytes(), stats.readsInFlight()
        };
    }

    public synchronized void close() {
        load.close();
        if (!closed) {
            closed = true;
            arena.close();
            OwnHeap.loadEnds();
        }
    }
}
