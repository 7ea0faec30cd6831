package io.instanttensor.device;

import java.lang.foreign.MemorySegment;
import java.util.Optional;

/// A slab in host memory: readers may fill it without any staging.
record HostMemory(HostPages pages, long bytes) implements DeviceMemory {
    @Override
    public long address() {
        return pages.segment().address();
    }

    @Override
    public Optional<MemorySegment> hostView() {
        return Optional.of(pages.segment());
    }

    @Override
    public void close() {
        pages.close();
    }
}
