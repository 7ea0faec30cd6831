package io.instanttensor.plan;

import java.util.ArrayDeque;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.Queue;

/// Walks over the placements of one slab, piece by piece as chunks are cut, and answers a batch whenever one is
/// complete.
final class BatchCutter implements Iterator<Batch> {
    private final long chunkBytes;
    private final long firstSlabOffset;
    private final long endSlabOffset;
    private final Placements placements;
    private final Queue<Batch> complete = new ArrayDeque<>(2);
    private final ChunkCutter chunks;
    private int begun;
    private boolean finished;
    // What is left of the present placement.
    private int file;
    private long fileOffset;
    private long slabOffset;
    private long leftBytes;

    BatchCutter(SlabLayout slab) {
        PlanLimits.Share share = slab.limits().share();
        long partBytes = share.partBytes(slab.bytes());
        this.chunkBytes = slab.limits().chunkBytes();
        this.firstSlabOffset = partBytes * share.rank();
        this.endSlabOffset = firstSlabOffset + partBytes;
        this.placements = slab.placements();
        this.chunks = new ChunkCutter(chunkBytes, new BatchPacker(slab.index(), slab.limits(), complete));
    }

    @Override
    public boolean hasNext() {
        while (complete.isEmpty() && !finished) {
            step();
        }
        return !complete.isEmpty();
    }

    @Override
    public Batch next() {
        if (!hasNext()) {
            throw new NoSuchElementException();
        }
        return complete.remove();
    }

    private void step() {
        if (leftBytes > 0) {
            long bytes = Math.min(leftBytes, chunkBytes - fileOffset % chunkBytes);
            chunks.append(file, fileOffset, slabOffset, bytes);
            fileOffset += bytes;
            slabOffset += bytes;
            leftBytes -= bytes;
        } else if (begun < placements.size()) {
            begin(begun++);
        } else {
            chunks.finish();
            finished = true;
        }
    }

    private void begin(int placement) {
        long start = placements.slabOffset(placement);
        slabOffset = Math.max(start, firstSlabOffset);
        leftBytes = Math.max(0, Math.min(start + placements.bytes(placement), endSlabOffset) - slabOffset);
        file = placements.file(placement);
        fileOffset = placements.fileOffset(placement) + (slabOffset - start);
    }
}
