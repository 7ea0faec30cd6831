package io.instanttensor.read;

import io.instanttensor.file.CheckpointFile;
import io.instanttensor.file.FileException;
import io.instanttensor.posix.Errno;
import io.instanttensor.posix.ErrnoException;
import io.instanttensor.posix.FileMapping;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/// Copies out of a mapping of the file, all of which is mapped at its first read; of one file at a time.
final class MappedReads implements PositionalReads {
    private CheckpointFile file;
    private FileMapping mapping;

    /// Why a file cannot be read so; empty where it can.
    static String refusal(CheckpointFile file) {
        if (file.bytes() == 0) {
            // Nothing to map, and nothing to read.
            return "";
        }
        try (FileMapping mapping = FileMapping.of(file.descriptor(), file.bytes());
                Arena arena = Arena.ofConfined()) {
            mapping.copy(0, arena.allocate(1));
            return "";
        } catch (ErrnoException e) {
            // What the file lacks is said by who reads it.
            return e.errno() == Errno.EFAULT ? "" : e.getMessage();
        }
    }

    @Override
    public long readOnce(CheckpointFile wanted, MemorySegment target, long offset) throws FileException {
        long there = Math.min(target.byteSize(), wanted.bytes() - offset);
        if (there > 0 && copy(wanted, target.asSlice(0, there), offset) == there) {
            return there;
        }
        // A mapping ends with a whole page, and a fault in it has no reason: a read tells both.
        return wanted.readOnce(target, offset);
    }

    private long copy(CheckpointFile wanted, MemorySegment target, long offset) throws FileException {
        try {
            if (file != wanted) {
                close();
                mapping = FileMapping.of(wanted.descriptor(), wanted.bytes());
                file = wanted;
            }
            return mapping.copy(offset, target);
        } catch (ErrnoException e) {
            if (e.errno() == Errno.EFAULT) {
                return 0;
            }
            throw wanted.readNothing(offset, target.byteSize(), e);
        }
    }

    @Override
    public void close() {
        if (mapping != null) {
            mapping.close();
            mapping = null;
            file = null;
        }
    }
}
