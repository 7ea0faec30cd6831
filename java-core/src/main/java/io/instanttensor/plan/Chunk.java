package io.instanttensor.plan;

import java.util.List;

/// What one read fetches, and where its bytes go.
///
/// @param slab index into the plan
/// @param file index of the file
/// @param bufferOffset where its first byte lies in its batch's staging buffer
/// @param segments in the order of the file; what lies between them is read and dropped
public record Chunk(int slab, int file, long fileOffset, long bytes, long bufferOffset, List<Segment> segments) {
    public Chunk {
        if (segments.isEmpty() || fileOffset < 0 || bufferOffset < 0) {
            throw new IllegalArgumentException("chunk at " + fileOffset + " that fills nothing");
        }
        Segment last = segments.getLast();
        if (last.chunkOffset() + last.bytes() > bytes) {
            throw new IllegalArgumentException("chunk of " + bytes + " bytes: segment ends behind it: " + last);
        }
    }

    /// The bytes of it that somebody wants.
    public long wantedBytes() {
        // By index: asked of every chunk twice, and an iterator each time is left to the garbage collector.
        long sum = 0;
        for (int i = 0; i < segments.size(); i++) {
            sum += segments.get(i).bytes();
        }
        return sum;
    }
}
