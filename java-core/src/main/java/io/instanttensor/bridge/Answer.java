package io.instanttensor.bridge;

import io.instanttensor.posix.EngineThreads;
import java.util.concurrent.Callable;
import java.util.concurrent.FutureTask;

/// What the machine answers to a question of Python's, found out on a thread of its own: storage and drivers
/// can take their time, and Python wants to be interruptible meanwhile.
public final class Answer {
    private final FutureTask<String[]> task;

    Answer(Callable<String[]> ask) {
        this.task = new FutureTask<>(ask);
        EngineThreads.builder().name("instanttensor-probe").start(task);
    }

    /// The answer; null when there is none in time.
    ///
    /// @throws Exception what asking threw
    public String[] await(long timeoutMillis) throws Exception {
        return Opening.await(task, timeoutMillis);
    }
}
