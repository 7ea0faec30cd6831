package io.instanttensor.plan;

import java.util.List;
import java.util.stream.Stream;

/// One slab: a run of whole tensors in the checkpoint's order, and the reads that fill it.
///
/// @param bytes what views may see: the tensors, padded so that the whole can be viewed as any type;
///     exactly the tensor where it holds a single one; 0 where all its tensors are empty
/// @param allocationBytes the memory it takes: `bytes`, or all ranks' parts where ranks share it
/// @param batches this rank's reads
public record SlabLayout(
        int index, long bytes, long allocationBytes, List<Placement> placements, List<Batch> batches) {
    public SlabLayout {
        if (placements.isEmpty() || bytes < 0 || allocationBytes < bytes) {
            throw new IllegalArgumentException("slab " + index + " of " + bytes + " bytes in " + allocationBytes);
        }
    }

    public Stream<Chunk> chunks() {
        return batches.stream().flatMap(batch -> batch.chunks().stream());
    }

    public int chunkCount() {
        int count = 0;
        for (Batch batch : batches) {
            count += batch.chunks().size();
        }
        return count;
    }
}
