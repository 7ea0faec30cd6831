package io.instanttensor.bridge;

import java.util.concurrent.atomic.AtomicInteger;

/// The Java heap, where the JVM was started for Python and nobody else has objects in it.
///
/// The collector rather lets the heap grow to its limit than look through what is old. So a process that loads again
/// and again would keep 100 MiB more than one load takes, where tensors are many.
final class OwnHeap {
    /// A system property, set by whoever starts the JVM for us alone: in a host's machine it would stop everybody.
    static final String OURS_ALONE = "instanttensor.own.heap";
    /// So many leave 10 MiB and more; a collection takes 10 to 20 ms.
    private static final int MANY_TENSORS = 50_000;

    private static final AtomicInteger LOADS = new AtomicInteger();

    private OwnHeap() {}

    static void loadBegins() {
        LOADS.incrementAndGet();
    }

    static void loadEnds() {
        LOADS.decrementAndGet();
    }

    /// A checkpoint is closed, and what others of its size have left is collected; unless a load is under way, whose
    /// readers would have to stop. On the thread that closes, since a process must not end in the middle of it.
    static void closed(int tensors) {
        if (tensors >= MANY_TENSORS && LOADS.get() == 0 && Boolean.getBoolean(OURS_ALONE)) {
            System.gc();
        }
    }
}
