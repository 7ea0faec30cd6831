package io.instanttensor.file;

import io.instanttensor.posix.Errno;
import java.io.IOException;
import java.nio.file.AccessDeniedException;
import java.nio.file.AccessMode;
import java.nio.file.FileSystemException;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;

/// Where java.nio.file's exceptions become [FileException]s with an errno.
final class PathErrors {
    private PathErrors() {}

    /// @param missing what to say where there is nothing at `path`
    static void requireReadable(Path path, String missing) throws FileException {
        try {
            path.getFileSystem().provider().checkAccess(path, AccessMode.READ);
        } catch (NoSuchFileException e) {
            throw new FileException(path, Errno.ENOENT, missing);
        } catch (IOException e) {
            throw of(path, e);
        }
    }

    static FileException of(Path path, IOException cause) {
        FileException error = switch (cause) {
            case NoSuchFileException _ -> new FileException(path, Errno.ENOENT, "no such file or folder");
            case AccessDeniedException _ -> new FileException(path, Errno.EACCES, "no permission to read it");
            case FileSystemException e when e.getReason() != null ->
                new FileException(path, Errno.EIO, e.getReason());
            default -> new FileException(path, Errno.EIO, String.valueOf(cause.getMessage()));
        };
        error.initCause(cause);
        return error;
    }
}
