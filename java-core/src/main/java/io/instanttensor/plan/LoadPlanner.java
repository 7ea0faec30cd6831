package io.instanttensor.plan;

import java.util.ArrayList;
import java.util.List;

/// Packs wanted ranges into slabs, in the order they are given in.
public final class LoadPlanner {
    private final PlanLimits limits;
    private final List<SlabLayout> slabs = new ArrayList<>();
    private List<Placement> open = new ArrayList<>();
    private long openBytes;
    private long wantedBytes;
    private long readBytes;

    private LoadPlanner(PlanLimits limits) {
        this.limits = limits;
    }

    /// @param wanted in the checkpoint's order; any other order works and reads less in one go
    public static LoadPlan plan(List<Wanted> wanted, PlanLimits limits) {
        LoadPlanner planner = new LoadPlanner(limits);
        planner.requireCountable(wanted);
        wanted.forEach(planner::place);
        planner.closeSlab();
        return new LoadPlan(planner.slabs, planner.wantedBytes, planner.readBytes,
                PlanLimits.bufferBytes(limits.batchBytes()));
    }

    private void requireCountable(List<Wanted> wanted) {
        for (Wanted range : wanted) {
            wantedBytes = Math.addExact(wantedBytes, range.bytes());
        }
        long chunks = wantedBytes / limits.chunkBytes() / limits.share().world();
        if (chunks > PlanLimits.MAX_CHUNKS) {
            throw new IllegalArgumentException(wantedBytes + " bytes in chunks of " + limits.chunkBytes()
                    + ": expected at most " + PlanLimits.MAX_CHUNKS + " chunks, found " + chunks);
        }
    }

    private void place(Wanted next) {
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
        ChunkCutter cutter = new ChunkCutter(
                slabs.size(), limits, partBytes * share.rank(), partBytes * (share.rank() + 1));
        open.forEach(cutter::add);
        List<Batch> batches = cutter.finish();
        for (Batch batch : batches) {
            for (Chunk chunk : batch.chunks()) {
                readBytes += chunk.bytes();
            }
        }
        slabs.add(new SlabLayout(slabs.size(), bytes, allocationBytes, List.copyOf(open), batches));
        open = new ArrayList<>();
        openBytes = 0;
    }
}
