package io.instanttensor.posix;

/// A system call failed. The message names the call and what the kernel answered.
public final class ErrnoException extends Exception {
    private static final long serialVersionUID = 1L;

    private final int errno;

    public ErrnoException(String call, int errno) {
        super(call + ": " + Posix.describe(errno));
        this.errno = errno;
    }

    public int errno() {
        return errno;
    }
}
