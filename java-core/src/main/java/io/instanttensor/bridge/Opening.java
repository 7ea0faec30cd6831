package io.instanttensor.bridge;

import io.instanttensor.posix.EngineThreads;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/// A checkpoint that is being opened, on a thread of its own: a network file system can take its time,
/// and Python wants to be interruptible meanwhile.
public final class Opening {
    private final FutureTask<PythonCheckpoint> task;
    private boolean abandoned;

    Opening(Callable<PythonCheckpoint> open) {
        this.task = new FutureTask<>(open);
        EngineThreads.builder().name("instanttensor-open").start(() -> {
            task.run();
            if (!closeIfAbandoned() && task.state() == Future.State.SUCCESS) {
                // Python knows by now, and has other things to do first.
                task.resultNow().prepareCatalogue();
            }
        });
    }

    /// The checkpoint; null when it is not open in time.
    ///
    /// @throws Exception what opening it threw
    public PythonCheckpoint await(long timeoutMillis) throws Exception {
        return await(task, timeoutMillis);
    }

    /// The outcome of a task; null when there is none in time.
    static <T> T await(FutureTask<T> task, long timeoutMillis) throws Exception {
        try {
            return task.get(timeoutMillis, TimeUnit.MILLISECONDS);
        } catch (TimeoutException e) {
            return null;
        } catch (ExecutionException e) {
            switch (e.getCause()) {
                case Exception exception -> throw exception;
                case Error error -> throw error;
                default -> throw e;
            }
        }
    }

    /// Nobody wants it any more; it is closed as soon as it is open.
    public void abandon() {
        synchronized (this) {
            abandoned = true;
        }
        if (task.isDone()) {
            closeIfAbandoned();
        }
    }

    private boolean closeIfAbandoned() {
        synchronized (this) {
            if (!abandoned) {
                return false;
            }
        }
        try {
            task.get().close();
        } catch (ExecutionException | InterruptedException e) {
            // It never came to be open; there is nothing to close, and nobody to tell.
        }
        return true;
    }
}
