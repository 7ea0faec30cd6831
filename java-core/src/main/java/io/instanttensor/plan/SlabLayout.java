package io.instanttensor.plan;

import java.util.Iterator;
import java.util.Spliterator;
import java.util.Spliterators;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;

/// One slab: a run of whole tensors in the checkpoint's order, and the reads that fill it.
///
/// @param bytes what views may see: the tensors, padded so that the whole can be viewed as any type;
///     exactly the tensor where it holds a single one; 0 where all its tensors are empty
/// @param allocationBytes the memory it takes: `bytes`, or all ranks' parts where ranks share it
/// @param ownBytes what this rank reads of it; gaps that are read along are not counted
/// @param limits that it was planned within
public record SlabLayout(
        int index, long bytes, long allocationBytes, long ownBytes, Placements placements, PlanLimits limits) {
    public SlabLayout {
        if (placements.isEmpty() || bytes < 0 || allocationBytes < bytes || ownBytes < 0) {
            throw new IllegalArgumentException("slab " + index + " of " + bytes + " bytes in " + allocationBytes);
        }
    }

    /// This rank's reads, cut as they are asked for: of a large checkpoint they would be most of the plan, and
    /// nobody needs more than a few at a time.
    public Iterator<Batch> batches() {
        return new BatchCutter(this);
    }

    public Stream<Chunk> chunks() {
        return StreamSupport.stream(Spliterators.spliteratorUnknownSize(batches(), Spliterator.ORDERED), false)
                .flatMap(batch -> batch.chunks().stream());
    }
}
