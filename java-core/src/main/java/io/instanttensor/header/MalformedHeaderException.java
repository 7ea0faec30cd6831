package io.instanttensor.header;

import java.io.IOException;
import java.nio.file.Path;

/// A file that is not a safetensors file, or not a whole one. Says which, where, and what was expected.
public final class MalformedHeaderException extends IOException {
    private static final long serialVersionUID = 1L;

    private final HeaderFault fault;

    public MalformedHeaderException(HeaderFault fault, Path file, String detail) {
        super("Error while deserializing header: " + fault.referenceName() + ": " + file + ": " + detail);
        this.fault = fault;
    }

    public HeaderFault fault() {
        return fault;
    }
}
