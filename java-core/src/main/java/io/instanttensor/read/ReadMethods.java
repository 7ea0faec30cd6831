package io.instanttensor.read;

import io.instanttensor.file.CheckpointFile;
import io.instanttensor.posix.ErrnoException;

/// What one reader thread reads with: each method is opened when a file first asks for it, and closed with this.
public final class ReadMethods implements AutoCloseable {
    /// At the boundary of two files, readers go back and forth between them.
    private static final int OWN_FILES = 2;

    private PositionalReads[] opened;
    private final CheckpointFile[] files = new CheckpointFile[OWN_FILES];
    private final CheckpointFile[] own = new CheckpointFile[OWN_FILES];
    private int next;

    PositionalReads of(ReadMethod method) {
        if (method == ReadMethod.PREAD) {
            return Preads.ALL;
        }
        if (opened == null) {
            opened = new PositionalReads[ReadMethod.values().length];
        }
        PositionalReads reads = opened[method.ordinal()];
        if (reads == null) {
            reads = method.open();
            opened[method.ordinal()] = reads;
        }
        return reads;
    }

    /// A file by a descriptor of this reader's own; by the common one where there can be none.
    CheckpointFile own(CheckpointFile file, boolean direct) {
        for (int i = 0; i < OWN_FILES; i++) {
            if (files[i] == file) {
                return own[i];
            }
        }
        int place = next;
        next = (next + 1) % OWN_FILES;
        forget(place);
        try {
            own[place] = file.reopened(direct);
        } catch (ErrnoException e) {
            // Without /proc, or with so many open files that the process needs the rest. Slower on some storage, and
            // as right.
            own[place] = file;
        }
        files[place] = file;
        return own[place];
    }

    private void forget(int place) {
        if (own[place] != files[place]) {
            own[place].close();
        }
        own[place] = null;
        files[place] = null;
    }

    /// Closes, on the thread that read.
    @Override
    public void close() {
        for (int i = 0; i < OWN_FILES; i++) {
            forget(i);
        }
        if (opened != null) {
            for (PositionalReads reads : opened) {
                if (reads != null) {
                    reads.close();
                }
            }
            opened = null;
        }
    }
}
