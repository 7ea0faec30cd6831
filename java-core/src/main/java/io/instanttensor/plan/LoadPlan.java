package io.instanttensor.plan;

import java.util.Iterator;
import java.util.List;

/// A whole load: slabs in the order in which they are handed out.
///
/// @param wantedBytes the sum over what is wanted
/// @param bufferBytes of the staging buffers that batches are packed for
public record LoadPlan(List<SlabLayout> slabs, long wantedBytes, long bufferBytes) {
    /// How many reads there are, and how many batches of them.
    public record Counts(int batches, int chunks) {}

    /// Counts until there are `enough` chunks.
    public Counts count(int enough) {
        int batches = 0;
        int chunks = 0;
        for (SlabLayout slab : slabs) {
            for (Iterator<Batch> all = slab.batches(); all.hasNext(); ) {
                batches++;
                chunks += all.next().chunks().size();
                if (chunks >= enough) {
                    return new Counts(batches, chunks);
                }
            }
        }
        return new Counts(batches, chunks);
    }
}
