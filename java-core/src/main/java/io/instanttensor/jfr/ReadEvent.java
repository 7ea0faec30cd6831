package io.instanttensor.jfr;

import jdk.jfr.Category;
import jdk.jfr.DataAmount;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;

/// One read of a chunk from its file.
@Name("io.instanttensor.Read")
@Label("Read")
@Category("InstantTensor")
@StackTrace(false)
public final class ReadEvent extends Event {
    @Label("File")
    public String file;

    @Label("File Offset")
    @DataAmount
    public long fileOffset;

    @Label("Length")
    @DataAmount
    public long bytes;

    @Label("Direct")
    public boolean direct;
}
