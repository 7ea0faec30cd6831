package io.instanttensor.plan;

import java.util.ArrayList;
import java.util.List;

/// Cuts the placements of one slab into reads: neighbours in a file are read together, up to the next
/// multiple of the chunk's size.
final class ChunkCutter {
    private final long chunkBytes;
    private final long firstSlabOffset;
    private final long endSlabOffset;
    private final BatchPacker packer;
    private List<Segment> segments = new ArrayList<>();
    private int file = -1;
    private long startOffset;
    private long endOffset;
    // The segment that grows: most checkpoints are one run, and an object for every tensor of it would
    // be most of the planner's work.
    private long openChunkOffset;
    private long openSlabOffset;
    private long openBytes;

    /// @param firstSlabOffset what of the slab is to be filled: from here,
    /// @param endSlabOffset to here
    ChunkCutter(int slab, PlanLimits limits, long firstSlabOffset, long endSlabOffset) {
        this.packer = new BatchPacker(slab, limits);
        this.chunkBytes = limits.chunkBytes();
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

    List<Batch> finish() {
        close();
        return packer.finish();
    }

    private void append(int nextFile, long fileOffset, long slabOffset, long bytes) {
        boolean joins = openBytes > 0 && nextFile == file
                && fileOffset / chunkBytes == startOffset / chunkBytes
                && fileOffset >= endOffset && fileOffset - endOffset < PlanLimits.GAP_BYTES;
        if (!joins) {
            close();
            file = nextFile;
            startOffset = fileOffset;
        }
        long chunkOffset = fileOffset - startOffset;
        if (openBytes > 0 && openChunkOffset + openBytes == chunkOffset && openSlabOffset + openBytes == slabOffset) {
            openBytes += bytes;
        } else {
            closeSegment();
            openChunkOffset = chunkOffset;
            openSlabOffset = slabOffset;
            openBytes = bytes;
        }
        endOffset = fileOffset + bytes;
    }

    private void closeSegment() {
        if (openBytes > 0) {
            segments.add(new Segment(openChunkOffset, openSlabOffset, openBytes));
            openBytes = 0;
        }
    }

    private void close() {
        closeSegment();
        if (!segments.isEmpty()) {
            packer.add(file, startOffset, endOffset - startOffset, List.copyOf(segments));
            segments = new ArrayList<>();
        }
    }
}
