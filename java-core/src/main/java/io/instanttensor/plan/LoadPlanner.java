package io.instanttensor.plan;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/// Packs wanted ranges into slabs, in the order they are given in.
public final class LoadPlanner {
    private final PlanLimits limits;
    private final List<SlabLayout> slabs = new ArrayList<>();
    private List<Placement> open = new ArrayList<>();
    private long openBytes;
    private long wantedBytes;

    private LoadPlanner(PlanLimits limits) {
        this.limits = limits;
    }

    /// @param wanted in the checkpoint's order; any other order works and reads less in one go
    public static LoadPlan plan(List<Wanted> wanted, PlanLimits limits) {
        LoadPlanner planner = new LoadPlanner(limits);
        for (Wanted range : wanted) {
            planner.place(range);
        }
        planner.closeSlab();
        return new LoadPlan(planner.slabs, planner.wantedBytes, PlanLimits.bufferBytes(limits.batchBytes()));
    }

    private void place(Wanted next) {
        wantedBytes = Math.addExact(wantedBytes, next.bytes());
        long slabOffset = PlanLimits.roundUp(openBytes, next.alignmentBytes());
        if (!open.isEmpty() && next.bytes() > limits.slabBytes() - slabOffset) {
            closeSlab();
            slabOffset = 0;
        }
        open.add(new Placement(next, slabOffset));
        openBytes = Math.addExact(slabOffset, next.bytes());
    }

    private void closeSlab() {
        if (open.isEmpty()) {
            return;
        }
        long bytes = open.size() == 1 ? openBytes : PlanLimits.roundUp(openBytes, PlanLimits.SLAB_PADDING_BYTES);
        PlanLimits.Share share = limits.share();
        long partBytes = share.partBytes(bytes);
        long allocationBytes = share.world() == 1 ? bytes : Math.multiplyExact(partBytes, share.world());
        slabs.add(new SlabLayout(slabs.size(), bytes, allocationBytes,
                ownBytes(partBytes * share.rank(), partBytes * (share.rank() + 1)),
                Collections.unmodifiableList(open), limits));
        // The next slab mostly holds about as many.
        open = new ArrayList<>(open.size() + 1);
        openBytes = 0;
    }

    private long ownBytes(long firstSlabOffset, long endSlabOffset) {
        long own = 0;
        for (Placement placement : open) {
            long from = Math.max(placement.slabOffset(), firstSlabOffset);
            long to = Math.min(placement.slabOffset() + placement.wanted().bytes(), endSlabOffset);
            own += Math.max(0, to - from);
        }
        return own;
    }
}
