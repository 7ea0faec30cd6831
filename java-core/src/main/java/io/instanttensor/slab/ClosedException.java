package io.instanttensor.slab;

/// Asked of something that is closed, or was while it answered.
public final class ClosedException extends IllegalStateException {
    private static final long serialVersionUID = 1L;

    public ClosedException(String what) {
        super(what);
    }
}
