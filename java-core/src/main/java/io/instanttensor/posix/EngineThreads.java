package io.instanttensor.posix;

/// How all threads of the engine start.
public final class EngineThreads {
    /// Java's usual size. Inside Python the default is 8 MiB, for the sake of Python's main thread, and that many
    /// times as many readers is address space that a limit may not allow.
    private static final long STACK_BYTES = 1 << 20;

    private EngineThreads() {}

    /// A daemon, still without its name.
    public static Thread.Builder.OfPlatform builder() {
        return Thread.ofPlatform().daemon().stackSize(STACK_BYTES);
    }
}
