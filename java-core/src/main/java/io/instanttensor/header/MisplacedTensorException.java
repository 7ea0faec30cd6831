package io.instanttensor.header;

import java.io.IOException;
import java.nio.file.Path;

/// An index names a file for a tensor, and the file does not hold it.
public final class MisplacedTensorException extends IOException {
    private static final long serialVersionUID = 1L;

    public MisplacedTensorException(String tensor, Path file) {
        super(file + ": expected tensor '" + tensor + "' here, as the index says; the file does not hold it");
    }
}
