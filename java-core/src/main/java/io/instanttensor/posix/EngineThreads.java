package io.instanttensor.posix;

import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicInteger;

/// How all threads of the engine start.
public final class EngineThreads {
    /// Java's usual size. Inside Python the default is 8 MiB, for the sake of Python's main thread, and that many
    /// times as many readers is address space that a limit may not allow.
    private static final long STACK_BYTES = 1 << 20;

    /// Of threads that wait for storage at once, for a short while.
    private static final int MAX_POOL_THREADS = 16;

    private EngineThreads() {}

    /// A daemon, still without its name.
    public static Thread.Builder.OfPlatform builder() {
        return Thread.ofPlatform().daemon().stackSize(STACK_BYTES);
    }

    /// Threads for so many tasks, named with a number behind `prefix`.
    public static ExecutorService pool(int tasks, String prefix) {
        // A builder's own factory counts by a handle, which the JVM takes 5 ms to link.
        AtomicInteger started = new AtomicInteger();
        return Executors.newFixedThreadPool(
                Math.min(tasks, MAX_POOL_THREADS),
                task -> builder().name(prefix + started.getAndIncrement()).unstarted(task));
    }
}
