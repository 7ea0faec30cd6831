package io.instanttensor.stage;

import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;

/// Where a load's time and bytes go. Summed over the readers, so seconds can exceed the wall clock's.
///
/// Plain numbers: there are some 25,000 additions a second, and the first two that met at an adder of cells held up
/// all readers of a first load for 4 ms, until the JVM had linked what makes cells.
public final class StageCounters {
    /// In pread.
    public final AtomicLong readNanos = new AtomicLong();
    /// For a staging buffer: the copies before were still under way.
    public final AtomicLong stagingWaitNanos = new AtomicLong();
    /// For the caller to let go of a slab.
    public final AtomicLong slabWaitNanos = new AtomicLong();
    /// In queueing copies; on the host, in copying.
    public final AtomicLong copyNanos = new AtomicLong();
    /// Read from files, the gaps included.
    public final AtomicLong readBytes = new AtomicLong();
    /// Of these, what somebody wants.
    public final AtomicLong stagedBytes = new AtomicLong();
    /// Reads that were under way at once, at most.
    public final AtomicInteger mostReads = new AtomicInteger();
    private final AtomicInteger reads = new AtomicInteger();

    void readBegins() {
        int now = reads.incrementAndGet();
        // Soon there are never more than before.
        if (now > mostReads.get()) {
            mostReads.accumulateAndGet(now, Math::max);
        }
    }

    void readEnds() {
        reads.decrementAndGet();
    }
}
