package io.instanttensor.posix;

/// A system call failed. The message names the call and what the kernel answered.
public final class ErrnoException extends Exception {
    private static final long serialVersionUID = 1L;

    private final String call;
    private final int errno;

    /// Cheap on purpose: some calls are made to see whether they fail.
    public ErrnoException(String call, int errno) {
        super(null, null, false, false);
        this.call = call;
        this.errno = errno;
    }

    public int errno() {
        return errno;
    }

    @Override
    public String getMessage() {
        return call + ": " + ErrorText.of(errno);
    }
}
