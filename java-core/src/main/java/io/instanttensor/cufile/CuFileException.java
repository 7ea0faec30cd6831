package io.instanttensor.cufile;

import io.instanttensor.posix.ErrnoException;

/// A call of libcufile failed. The message names the call and what it answered.
public final class CuFileException extends Exception {
    private static final long serialVersionUID = 1L;

    private final int errno;

    CuFileException(String call, int error, int cudaError) {
        super(call + ": error " + error + " of libcufile"
                + (cudaError == 0 ? "" : " (error " + cudaError + " of CUDA)"));
        this.errno = 0;
    }

    CuFileException(ErrnoException cause) {
        super(cause.getMessage());
        this.errno = cause.errno();
    }

    /// The system's number for it; 0 where it was libcufile that failed.
    public int errno() {
        return errno;
    }
}
