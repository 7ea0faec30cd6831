package io.instanttensor.stage;

import java.util.concurrent.atomic.LongAdder;

/// Where a load's time and bytes go. Summed over the readers, so seconds can exceed the wall clock's.
public final class StageCounters {
    /// In pread.
    public final LongAdder readNanos = new LongAdder();
    /// For a staging buffer: the copies before were still under way.
    public final LongAdder stagingWaitNanos = new LongAdder();
    /// For the caller to let go of a slab.
    public final LongAdder slabWaitNanos = new LongAdder();
    /// In queueing copies; on the host, in copying.
    public final LongAdder copyNanos = new LongAdder();
    /// Read from files, the gaps included.
    public final LongAdder readBytes = new LongAdder();
    /// Of these, what somebody wants.
    public final LongAdder stagedBytes = new LongAdder();
}
