package io.instanttensor.plan;

import java.util.ArrayList;
import java.util.List;

/// Packs wanted ranges into slabs, in the order they are given in.
///
/// No read starts before all of them are packed, so nothing is made here for each but a number.
public final class LoadPlanner {
    private final Ranges wanted;
    private final PlanLimits limits;
    private final List<SlabLayout> slabs = new ArrayList<>();
    private final long[] slabOffsets;
    private int openFirst;
    private int placed;
    private long openBytes;
    private long openWantedBytes;
    private long wantedBytes;

    private LoadPlanner(Ranges wanted, PlanLimits limits) {
        this.wanted = wanted;
        this.limits = limits;
        this.slabOffsets = new long[wanted.size()];
    }

    /// @param wanted in the checkpoint's order; any other order works and reads less in one go
    public static LoadPlan plan(Ranges wanted, PlanLimits limits) {
        LoadPlanner planner = new LoadPlanner(wanted, limits);
        int ranges = wanted.size();
        for (int range = 0; range < ranges; range++) {
            planner.place(wanted.bytes(range), wanted.alignmentBytes(range));
        }
        planner.closeSlab();
        return new LoadPlan(planner.slabs, planner.wantedBytes, PlanLimits.bufferBytes(limits.batchBytes()));
    }

    private void place(long bytes, int alignmentBytes) {
        wantedBytes = Math.addExact(wantedBytes, bytes);
        long slabOffset = PlanLimits.roundUp(openBytes, alignmentBytes);
        if (placed > openFirst && bytes > limits.slabBytes() - slabOffset) {
            closeSlab();
            slabOffset = 0;
        }
        slabOffsets[placed++] = slabOffset;
        openBytes = Math.addExact(slabOffset, bytes);
        openWantedBytes += bytes;
    }

    private void closeSlab() {
        int count = placed - openFirst;
        if (count == 0) {
            return;
        }
        long bytes = count == 1 ? openBytes : PlanLimits.roundUp(openBytes, PlanLimits.SLAB_PADDING_BYTES);
        PlanLimits.Share share = limits.share();
        long partBytes = share.partBytes(bytes);
        long allocationBytes = share.world() == 1 ? bytes : Math.multiplyExact(partBytes, share.world());
        Placements placements = new Placements(wanted, slabOffsets, openFirst, count);
        long ownBytes = share.world() == 1
                ? openWantedBytes
                : ownBytes(placements, partBytes * share.rank(), partBytes * (share.rank() + 1));
        slabs.add(new SlabLayout(slabs.size(), bytes, allocationBytes, ownBytes, placements, limits));
        openFirst = placed;
        openBytes = 0;
        openWantedBytes = 0;
    }

    private static long ownBytes(Placements placements, long firstSlabOffset, long endSlabOffset) {
        long own = 0;
        for (int at = 0; at < placements.size(); at++) {
            long from = Math.max(placements.slabOffset(at), firstSlabOffset);
            long to = Math.min(placements.slabOffset(at) + placements.bytes(at), endSlabOffset);
            own += Math.max(0, to - from);
        }
        return own;
    }
}
