package io.instanttensor.read;

import java.nio.file.Path;
import java.util.List;

/// None of the backends that were asked for can read a file.
public final class NoBackendException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    public NoBackendException(Path file, List<String> reasons) {
        super(file + ": none of the backends asked for can read it: " + String.join("; ", reasons));
    }
}
