package io.instanttensor.jfr;

import jdk.jfr.Category;
import jdk.jfr.DataAmount;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;

/// The queueing of one copy from a staging buffer to a slab. On a GPU the copy itself goes on behind it.
@Name("io.instanttensor.Copy")
@Label("Copy")
@Category("InstantTensor")
@StackTrace(false)
public final class CopyEvent extends Event {
    @Label("Slab")
    public int slab;

    @Label("Slab Offset")
    @DataAmount
    public long slabOffset;

    @Label("Length")
    @DataAmount
    public long bytes;
}
