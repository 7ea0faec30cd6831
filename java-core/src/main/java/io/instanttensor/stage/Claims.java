package io.instanttensor.stage;

import io.instanttensor.plan.Batch;
import io.instanttensor.plan.Chunk;
import io.instanttensor.plan.SlabLayout;
import io.instanttensor.read.ChunkReader;
import java.util.Collections;
import java.util.HashSet;
import java.util.Iterator;
import java.util.List;
import java.util.Set;

/// Hands out the chunks of a plan in their order, each to one reader, and knows the batches under way.
final class Claims {
    private final Iterator<SlabLayout> slabs;
    private final List<ChunkReader> files;
    private Iterator<Batch> batches = Collections.emptyIterator();
    private Iterator<Chunk> chunks = Collections.emptyIterator();
    private StagedBatch batch;
    private final Set<StagedBatch> underWay = new HashSet<>();

    /// A chunk for one reader, and the batch that it belongs to.
    record Claim(StagedBatch batch, Chunk chunk) {}

    /// @param files of the plan, by index
    Claims(List<SlabLayout> slabs, List<ChunkReader> files) {
        this.slabs = slabs.iterator();
        this.files = files;
    }

    /// The next chunk; null after the last.
    synchronized Claim next() {
        while (!chunks.hasNext()) {
            if (batches.hasNext()) {
                Batch next = batches.next();
                chunks = next.chunks().iterator();
                batch = new StagedBatch(next, readsDirectly(next));
                underWay.add(batch);
            } else if (slabs.hasNext()) {
                batches = slabs.next().batches();
            } else {
                return null;
            }
        }
        return new Claim(batch, chunks.next());
    }

    private boolean readsDirectly(Batch next) {
        for (Chunk chunk : next.chunks()) {
            if (files.get(chunk.file()).access().direct()) {
                return true;
            }
        }
        return false;
    }

    /// A batch is over.
    synchronized void done(StagedBatch over) {
        underWay.remove(over);
    }

    /// Those that were not finished.
    synchronized List<StagedBatch> underWay() {
        return List.copyOf(underWay);
    }
}
