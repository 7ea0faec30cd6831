package io.instanttensor.plan;

import java.util.List;

/// A whole load: slabs in the order in which they are handed out.
///
/// @param wantedBytes the sum over what is wanted
/// @param readBytes what this process reads for it; more by the gaps that are read along, less where
///     ranks share the reading
public record LoadPlan(List<SlabLayout> slabs, long wantedBytes, long readBytes) {
    public int chunkCount() {
        return slabs.stream().mapToInt(slab -> slab.chunks().size()).sum();
    }
}
