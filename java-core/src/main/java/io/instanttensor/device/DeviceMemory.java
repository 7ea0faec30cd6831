package io.instanttensor.device;

import java.lang.foreign.MemorySegment;
import java.util.Optional;

/// One allocation on a device. Owned by whoever asked for it; closing frees it, and may wait for the
/// device to do so. Closing twice frees once.
public interface DeviceMemory extends AutoCloseable {
    /// Address of the first byte, in the device's own address space.
    long address();

    long bytes();

    /// The same memory for the host to write to; empty where only copies reach it.
    Optional<MemorySegment> hostView();

    /// @throws IndexOutOfBoundsException where a range does not lie inside
    default void requireInside(long offset, long rangeBytes) {
        if (offset < 0 || offset > bytes() || rangeBytes > bytes() - offset) {
            throw new IndexOutOfBoundsException("copy of " + rangeBytes + " bytes to offset " + offset
                    + ": the target has " + bytes() + " bytes");
        }
    }

    @Override
    void close();
}
