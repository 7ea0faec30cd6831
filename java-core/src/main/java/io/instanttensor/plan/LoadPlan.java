package io.instanttensor.plan;

import java.util.List;

/// A whole load: slabs in the order in which they are handed out.
///
/// @param wantedBytes the sum over what is wanted
/// @param readBytes what this process reads for it; more by the gaps that are read along, less where
///     ranks share the reading
/// @param bufferBytes of the staging buffers that batches were packed for
public record LoadPlan(List<SlabLayout> slabs, long wantedBytes, long readBytes, long bufferBytes) {
    public int batchCount() {
        return slabs.stream().mapToInt(slab -> slab.batches().size()).sum();
    }

    public int chunkCount() {
        return slabs.stream().mapToInt(SlabLayout::chunkCount).sum();
    }
}
