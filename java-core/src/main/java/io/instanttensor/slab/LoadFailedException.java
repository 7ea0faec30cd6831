package io.instanttensor.slab;

/// A reader failed, and with it the load. The cause says what happened, in its own words.
public final class LoadFailedException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    public LoadFailedException(Throwable cause) {
        super(cause.getMessage(), cause);
    }
}
