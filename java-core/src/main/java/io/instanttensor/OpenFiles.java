package io.instanttensor;

import io.instanttensor.file.CheckpointFile;
import io.instanttensor.slab.ClosedException;
import java.util.List;

/// The files of a checkpoint, open for as long as anybody reads them: a reader that is inside the
/// kernel cannot be called back, and a descriptor closed under it could be somebody else's by then.
final class OpenFiles {
    private final List<CheckpointFile> files;
    private int users = 1;

    OpenFiles(List<CheckpointFile> files) {
        this.files = files;
    }

    List<CheckpointFile> files() {
        return files;
    }

    /// One more user.
    ///
    /// @throws ClosedException where all have left, and the files are closed
    synchronized void retain() {
        if (users == 0) {
            throw new ClosedException("the checkpoint is closed");
        }
        users++;
    }

    /// One user less; the last one closes.
    synchronized void release() {
        users--;
        if (users == 0) {
            files.forEach(CheckpointFile::close);
        }
    }
}
