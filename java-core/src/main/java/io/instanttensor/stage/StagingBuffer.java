package io.instanttensor.stage;

import io.instanttensor.device.Device;
import io.instanttensor.device.Fence;
import io.instanttensor.device.StagingMemory;

/// A staging buffer and the fence behind its last copy. Owned by the pool, used for one batch at a time.
final class StagingBuffer {
    private final StagingMemory memory;
    private final Fence copied;

    StagingBuffer(Device device, long bytes) {
        this.memory = device.allocateStaging(bytes);
        try {
            this.copied = device.newFence();
        } catch (RuntimeException | Error e) {
            memory.close();
            throw e;
        }
    }

    StagingMemory memory() {
        return memory;
    }

    /// Passed once the buffer may be written to again.
    Fence copied() {
        return copied;
    }

    long bytes() {
        return memory.segment().byteSize();
    }

    void free() {
        try {
            copied.close();
        } finally {
            memory.close();
        }
    }
}
