package io.instanttensor.plan;

/// A run of bytes that keeps its order from the file to the slab.
///
/// @param chunkOffset where it starts in its chunk
/// @param slabOffset where it belongs in the slab
public record Segment(long chunkOffset, long slabOffset, long bytes) {
    public Segment {
        if (chunkOffset < 0 || slabOffset < 0 || bytes < 1) {
            throw new IllegalArgumentException(
                    "segment of " + bytes + " bytes from " + chunkOffset + " to " + slabOffset);
        }
    }
}
