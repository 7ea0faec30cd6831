package io.instanttensor.device;

import java.lang.foreign.MemorySegment;
import java.util.Optional;
import java.util.function.Supplier;

/// A slab in host memory: readers may fill it without any staging.
///
/// @param segment asked for at every use, since it ends with its owner
/// @param release gives the memory back; nothing where it is borrowed
record HostMemory(long bytes, Supplier<MemorySegment> segment, Runnable release) implements DeviceMemory {
    static HostMemory of(HostPages pages, long bytes) {
        return new HostMemory(bytes, pages::segment, pages::close);
    }

    static HostMemory borrowed(long address, long bytes) {
        MemorySegment segment = MemorySegment.ofAddress(address).reinterpret(bytes);
        return new HostMemory(bytes, () -> segment, () -> {});
    }

    @Override
    public long address() {
        return segment.get().address();
    }

    @Override
    public Optional<MemorySegment> hostView() {
        return Optional.of(segment.get());
    }

    @Override
    public void close() {
        release.run();
    }
}
