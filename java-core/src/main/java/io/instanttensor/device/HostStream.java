package io.instanttensor.device;

import java.lang.foreign.MemorySegment;

/// Copies on the calling thread: each is done when it returns.
final class HostStream implements CopyStream {
    private final Lifetime lifetime = new Lifetime("copy stream of cpu");

    @Override
    public void copy(MemorySegment source, DeviceMemory target, long targetOffset) {
        lifetime.requireOpen();
        if (!(target instanceof HostMemory memory)) {
            throw new IllegalArgumentException("the target of the copy is not memory of cpu: " + target);
        }
        memory.requireInside(targetOffset, source.byteSize());
        MemorySegment.copy(source, 0, memory.segment().get(), targetOffset, source.byteSize());
    }

    @Override
    public void record(Fence fence) {
        lifetime.requireOpen();
        HostFence.requireUsable(fence);
    }

    @Override
    public void waitFor(Fence fence) {
        lifetime.requireOpen();
        HostFence.requireUsable(fence);
    }

    @Override
    public void close() {
        lifetime.end();
    }
}
