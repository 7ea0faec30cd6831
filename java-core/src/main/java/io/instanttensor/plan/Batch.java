package io.instanttensor.plan;

import java.util.List;

/// Chunks of one slab that are read into one staging buffer, by several readers at once, and go to the
/// device together.
///
/// @param slab index into the plan
/// @param chunks in the order of the slab
/// @param copies from the buffer to the slab, in order; what lies side by side in both is one
public record Batch(int slab, List<Chunk> chunks, List<Copy> copies) {
    /// A run of bytes that goes from the staging buffer to the slab.
    public record Copy(long bufferOffset, long slabOffset, long bytes) {}

    public Batch {
        if (chunks.isEmpty() || copies.isEmpty()) {
            throw new IllegalArgumentException("batch of slab " + slab + " that fills nothing");
        }
    }

    /// The bytes of it that somebody wants.
    public long wantedBytes() {
        long bytes = 0;
        for (Copy copy : copies) {
            bytes += copy.bytes();
        }
        return bytes;
    }
}
