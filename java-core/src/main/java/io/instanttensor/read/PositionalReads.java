package io.instanttensor.read;

import io.instanttensor.file.CheckpointFile;
import io.instanttensor.file.FileException;
import java.lang.foreign.MemorySegment;

/// One way of making positional reads, as one reader thread makes them: it reads for nobody else, and owns what it
/// reads with.
///
/// What comes short is the [ChunkReader]'s to judge, and alignment to keep: a method need know of neither.
interface PositionalReads extends AutoCloseable {
    /// One read, which may bring less than asked for; 0 at the end of the file. When it returns, or throws, nobody
    /// writes to `target` any more.
    ///
    /// @throws FileException with the kernel's errno, where not a byte could be read
    long readOnce(CheckpointFile file, MemorySegment target, long offset) throws FileException;

    /// Gives back what was made for reading. Called once, by the thread that read.
    @Override
    void close();
}
