package io.instanttensor.plan;

import java.util.List;

/// One slab: a run of whole tensors in the checkpoint's order, and the reads that fill it.
///
/// @param bytes what views may see: the tensors, padded so that the whole can be viewed as any type;
///     exactly the tensor where it holds a single one; 0 where all its tensors are empty
/// @param allocationBytes the memory it takes: `bytes`, or all ranks' parts where ranks share it
/// @param chunks this rank's
public record SlabLayout(int index, long bytes, long allocationBytes, List<Placement> placements, List<Chunk> chunks) {
    public SlabLayout {
        if (placements.isEmpty() || bytes < 0 || allocationBytes < bytes) {
            throw new IllegalArgumentException("slab " + index + " of " + bytes + " bytes in " + allocationBytes);
        }
    }
}
