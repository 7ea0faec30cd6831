package io.instanttensor.device;

import java.lang.foreign.MemorySegment;

/// A queue of copies to the device. Belongs to one thread at a time.
public interface CopyStream extends AutoCloseable {
    /// Queues a copy of all of `source` to `target` at `targetOffset`. The source may be written to
    /// again only when a fence recorded afterwards has passed.
    void copy(MemorySegment source, DeviceMemory target, long targetOffset);

    /// Marks the end of what is queued so far. A fence can be recorded again; the later mark counts.
    void record(Fence fence);

    /// What is queued from now on waits, on the device, until `fence` has passed.
    void waitFor(Fence fence);

    /// Destroys the queue once it is empty; does not wait for that.
    @Override
    void close();
}
