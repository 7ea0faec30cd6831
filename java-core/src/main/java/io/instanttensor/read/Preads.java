package io.instanttensor.read;

import io.instanttensor.file.CheckpointFile;
import io.instanttensor.file.FileException;
import java.lang.foreign.MemorySegment;

/// pread(2), which blocks its thread: as many reads are in flight as there are readers.
final class Preads implements PositionalReads {
    /// Stateless, so one is enough.
    static final Preads ALL = new Preads();

    private Preads() {}

    @Override
    public long readOnce(CheckpointFile file, MemorySegment target, long offset) throws FileException {
        return file.readOnce(target, offset);
    }

    @Override
    public void close() {}
}
