package io.instanttensor.file;

import java.io.IOException;
import java.nio.file.Path;

/// A `*.safetensors.index.json` that is none. Says which, what was expected and what came.
public final class MalformedIndexException extends IOException {
    private static final long serialVersionUID = 1L;

    public MalformedIndexException(Path index, String detail) {
        super(index + ": " + detail);
    }
}
