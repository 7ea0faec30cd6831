package io.instanttensor.file;

import java.io.IOException;
import java.nio.file.Path;

/// A file could not be found, opened or read. The message names it, the operation, the range, what was
/// expected and what came.
public final class FileException extends IOException {
    private static final long serialVersionUID = 1L;

    private final transient Path file;
    private final int errno;

    public FileException(Path file, int errno, String detail) {
        super(file + ": " + detail);
        this.file = file;
        this.errno = errno;
    }

    public Path file() {
        return file;
    }

    /// The system's number for it; 0 where no system call failed (a file that ends early, say).
    public int errno() {
        return errno;
    }
}
