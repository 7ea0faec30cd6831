package io.instanttensor.device;

import java.lang.foreign.MemorySegment;

/// Staging for the host device: nothing to lock, since no other processor reads it.
record HostStaging(HostPages pages) implements StagingMemory {
    @Override
    public MemorySegment segment() {
        return pages.segment();
    }

    @Override
    public void close() {
        pages.close();
    }
}
