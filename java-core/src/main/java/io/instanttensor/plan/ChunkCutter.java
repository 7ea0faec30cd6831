package io.instanttensor.plan;

import java.util.ArrayList;
import java.util.List;

/// Cuts the placements of one slab into reads: neighbours in a file are read together, up to the next
/// multiple of the chunk's size.
final class ChunkCutter {
    private final int slab;
    private final long chunkBytes;
    private final long firstSlabOffset;
    private final long endSlabOffset;
    private final List<Chunk> chunks = new ArrayList<>();
    private List<Segment> segments = new ArrayList<>();
    private int file = -1;
    private long startOffset;
    private long endOffset;

    /// @param firstSlabOffset what of the slab is to be filled: from here,
    /// @param endSlabOffset to here
    ChunkCutter(int slab, long chunkBytes, long firstSlabOffset, long endSlabOffset) {
        this.slab = slab;
        this.chunkBytes = chunkBytes;
        this.firstSlabOffset = firstSlabOffset;
        this.endSlabOffset = endSlabOffset;
    }

    void add(Placement placement) {
        Wanted wanted = placement.wanted();
        long from = Math.max(placement.slabOffset(), firstSlabOffset);
        long to = Math.min(placement.slabOffset() + wanted.bytes(), endSlabOffset);
        long fileOffset = wanted.fileOffset() + (from - placement.slabOffset());
        while (from < to) {
            long untilCut = chunkBytes - fileOffset % chunkBytes;
            long bytes = Math.min(to - from, untilCut);
            append(wanted.file(), fileOffset, from, bytes);
            fileOffset += bytes;
            from += bytes;
        }
    }

    List<Chunk> finish() {
        close();
        return List.copyOf(chunks);
    }

    private void append(int nextFile, long fileOffset, long slabOffset, long bytes) {
        boolean joins = !segments.isEmpty() && nextFile == file
                && fileOffset / chunkBytes == startOffset / chunkBytes
                && fileOffset >= endOffset && fileOffset - endOffset < PlanLimits.GAP_BYTES;
        if (!joins) {
            close();
            file = nextFile;
            startOffset = fileOffset;
        }
        long chunkOffset = fileOffset - startOffset;
        Segment last = segments.isEmpty() ? null : segments.getLast();
        if (last != null && last.chunkOffset() + last.bytes() == chunkOffset
                && last.slabOffset() + last.bytes() == slabOffset) {
            segments.set(segments.size() - 1, new Segment(last.chunkOffset(), last.slabOffset(), last.bytes() + bytes));
        } else {
            segments.add(new Segment(chunkOffset, slabOffset, bytes));
        }
        endOffset = fileOffset + bytes;
    }

    private void close() {
        if (!segments.isEmpty()) {
            chunks.add(new Chunk(slab, file, startOffset, endOffset - startOffset, List.copyOf(segments)));
            segments = new ArrayList<>();
        }
    }
}
