package io.instanttensor.device;

import java.lang.foreign.MemorySegment;

/// Host memory that the device copies from. Closing gives it back, once.
public interface StagingMemory extends AutoCloseable {
    /// All of it; usable from every thread.
    MemorySegment segment();

    @Override
    void close();
}
