package io.instanttensor.plan;

import java.util.ArrayList;
import java.util.List;

/// Joins what is wanted to reads: neighbours in a file are read together, up to the next multiple of the
/// chunk's size.
final class ChunkCutter {
    private final long chunkBytes;
    private final BatchPacker packer;
    private final List<Segment> segments = new ArrayList<>();
    private int file = -1;
    private long startOffset;
    private long endOffset;
    // The segment that grows: most checkpoints are one run, and an object for every tensor of it would
    // be most of the work.
    private long openChunkOffset;
    private long openSlabOffset;
    private long openBytes;

    ChunkCutter(long chunkBytes, BatchPacker packer) {
        this.chunkBytes = chunkBytes;
        this.packer = packer;
    }

    /// Adds a run of bytes that crosses no multiple of the chunk's size in its file.
    void append(int nextFile, long fileOffset, long slabOffset, long bytes) {
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

    void finish() {
        close();
        packer.finish();
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
            segments.clear();
        }
    }
}
