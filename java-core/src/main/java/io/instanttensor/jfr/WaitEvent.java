package io.instanttensor.jfr;

import jdk.jfr.Category;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;
import jdk.jfr.Threshold;

/// A reader that could not go on.
@Name("io.instanttensor.Wait")
@Label("Wait")
@Category("InstantTensor")
@StackTrace(false)
@Threshold("10 us")
public final class WaitEvent extends Event {
    /// What a reader waits for.
    public enum For {
        /// A slab's memory: the caller is the limit.
        ROOM,
        /// A staging buffer: the device is the limit.
        STAGING
    }

    @Label("For")
    public String what;
}
