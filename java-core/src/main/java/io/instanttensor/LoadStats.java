package io.instanttensor;

import io.instanttensor.plan.LoadPlan;
import io.instanttensor.plan.SlabBudget;
import io.instanttensor.stage.StageCounters;

/// What a load did, and what it waited for. The readers' times are sums over all of them.
///
/// @param wantedBytes of the tensors
/// @param readBytes from the files, the gaps included
/// @param seconds from the readers' start until the last slab was handed out
/// @param planSeconds before that: choosing ways to read, and planning
/// @param readSeconds in reading
/// @param stagingWaitSeconds for a staging buffer whose copy was under way: the device is the limit
/// @param slabWaitSeconds for room: the caller is the limit
/// @param copySeconds in queueing copies, or in copying where the device is the host
/// @param callerWaitSeconds of the caller, for slabs: storage or device is the limit
/// @param capBytes what the load's own slabs might take; 0 where the caller brought the memory
/// @param peakBytes what they took at most
/// @param pinnedBytes of staging buffers on this device, for all loads
/// @param readsInFlight how many reads were under way at once, at most
public record LoadStats(
        long wantedBytes, long readBytes, int slabs, double seconds, double planSeconds, double readSeconds,
        double stagingWaitSeconds, double slabWaitSeconds, double copySeconds, double callerWaitSeconds, long capBytes,
        long peakBytes, long pinnedBytes, int readsInFlight) {
    private static final double NANOS = 1e-9;

    static LoadStats of(
            LoadPlan plan, SlabBudget budget, StageCounters counters, long nanos, long planNanos,
            long callerWaitNanos, long peakBytes, long pinnedBytes) {
        return new LoadStats(
                plan.wantedBytes(), counters.readBytes.get(), plan.slabs().size(), nanos * NANOS,
                planNanos * NANOS, counters.readNanos.get() * NANOS, counters.stagingWaitNanos.get() * NANOS,
                counters.slabWaitNanos.get() * NANOS, counters.copyNanos.get() * NANOS, callerWaitNanos * NANOS,
                budget == null ? 0 : budget.capBytes(), peakBytes, pinnedBytes,
                counters.mostReads.get());
    }
}
