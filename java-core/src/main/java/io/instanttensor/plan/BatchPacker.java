package io.instanttensor.plan;

import java.util.ArrayList;
import java.util.List;
import java.util.Queue;

/// Packs the chunks of one slab into staging buffers, in order. Neighbours in a file stay neighbours in the
/// buffer, so that one copy takes them; what is no neighbour keeps its distance, so that the ends of a
/// direct read, which are widened to whole units, touch nobody else's bytes.
final class BatchPacker {
    private final int slab;
    private final PlanLimits limits;
    private final Queue<Batch> complete;
    private final List<Chunk> chunks = new ArrayList<>();
    private final List<Batch.Copy> copies = new ArrayList<>();

    /// @param complete gets every batch that is
    BatchPacker(int slab, PlanLimits limits, Queue<Batch> complete) {
        this.slab = slab;
        this.limits = limits;
        this.complete = complete;
    }

    void add(int file, long fileOffset, long bytes, List<Segment> segments) {
        long bufferOffset = nextOffset(file, fileOffset);
        if (!chunks.isEmpty() && widened(bufferOffset + bytes) > PlanLimits.bufferBytes(limits.batchBytes())) {
            finish();
            bufferOffset = nextOffset(file, fileOffset);
        }
        chunks.add(new Chunk(slab, file, fileOffset, bytes, bufferOffset, segments));
        for (Segment segment : segments) {
            addCopy(bufferOffset + segment.chunkOffset(), segment.slabOffset(), segment.bytes());
        }
    }

    /// Addresses of direct reads are as far from a whole unit as their offsets in the file are.
    private long nextOffset(int file, long fileOffset) {
        long phase = fileOffset % PlanLimits.STAGING_UNIT_BYTES;
        if (chunks.isEmpty()) {
            return phase;
        }
        Chunk last = chunks.getLast();
        long end = last.bufferOffset() + last.bytes();
        boolean neighbours = last.file() == file && last.fileOffset() + last.bytes() == fileOffset;
        // Two that meet inside a unit would both write all of it: of neighbours, too, unless cut at one's end.
        return neighbours && phase == 0 ? end : widened(end) + phase;
    }

    private long widened(long offset) {
        return PlanLimits.roundUp(offset, PlanLimits.STAGING_UNIT_BYTES);
    }

    private void addCopy(long bufferOffset, long slabOffset, long bytes) {
        if (!copies.isEmpty()) {
            Batch.Copy last = copies.getLast();
            if (last.bufferOffset() + last.bytes() == bufferOffset && last.slabOffset() + last.bytes() == slabOffset) {
                copies.set(copies.size() - 1,
                        new Batch.Copy(last.bufferOffset(), last.slabOffset(), last.bytes() + bytes));
                return;
            }
        }
        copies.add(new Batch.Copy(bufferOffset, slabOffset, bytes));
    }

    void finish() {
        if (!chunks.isEmpty()) {
            complete.add(new Batch(slab, List.copyOf(chunks), List.copyOf(copies)));
            chunks.clear();
            copies.clear();
        }
    }
}
