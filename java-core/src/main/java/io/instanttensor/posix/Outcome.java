package io.instanttensor.posix;

import java.io.IOException;
import java.io.InterruptedIOException;
import java.io.UncheckedIOException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;

/// What came of a task on another thread, for whoever waits for it.
public final class Outcome {
    private Outcome() {}

    /// Waits for a task's result, or throws what it threw.
    ///
    /// @param doing what an interrupt interrupts
    public static <T> T of(Future<T> task, String doing) throws IOException {
        try {
            return task.get();
        } catch (ExecutionException e) {
            switch (e.getCause()) {
                case IOException io -> throw io;
                case RuntimeException runtime -> throw runtime;
                case Error error -> throw error;
                default -> throw new IOException(e.getCause());
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new UncheckedIOException(new InterruptedIOException("interrupted while " + doing));
        }
    }
}
