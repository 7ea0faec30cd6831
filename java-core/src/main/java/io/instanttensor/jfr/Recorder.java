package io.instanttensor.jfr;

import java.nio.file.Path;
import jdk.jfr.FlightRecorder;

/// Writes the events, where anybody could be recording them.
///
/// To touch an event class for the first time costs 100 ms on two processors; only those who record
/// pay for it. So no event is made, nor its class looked at, before a flight recorder runs.
public final class Recorder {
    private Recorder() {}

    /// Starts the clock of a read; null while nobody records.
    public static ReadEvent beginRead() {
        if (!FlightRecorder.isInitialized()) {
            return null;
        }
        ReadEvent event = new ReadEvent();
        event.begin();
        return event;
    }

    /// @param event from [#beginRead]
    public static void endRead(ReadEvent event, Path file, long fileOffset, long bytes, boolean direct) {
        if (event == null) {
            return;
        }
        event.end();
        if (event.shouldCommit()) {
            event.file = file.toString();
            event.fileOffset = fileOffset;
            event.bytes = bytes;
            event.direct = direct;
            event.commit();
        }
    }

    /// Starts the clock of a copy; null while nobody records.
    public static CopyEvent beginCopy() {
        if (!FlightRecorder.isInitialized()) {
            return null;
        }
        CopyEvent event = new CopyEvent();
        event.begin();
        return event;
    }

    /// @param event from [#beginCopy]
    public static void endCopy(CopyEvent event, int slab, long slabOffset, long bytes) {
        if (event == null) {
            return;
        }
        event.end();
        if (event.shouldCommit()) {
            event.slab = slab;
            event.slabOffset = slabOffset;
            event.bytes = bytes;
            event.commit();
        }
    }

    /// Starts the clock of a wait; null while nobody records.
    public static WaitEvent beginWait() {
        if (!FlightRecorder.isInitialized()) {
            return null;
        }
        WaitEvent event = new WaitEvent();
        event.begin();
        return event;
    }

    /// @param event from [#beginWait]
    public static void endWait(WaitEvent event, WaitEvent.For what) {
        if (event == null) {
            return;
        }
        event.end();
        if (event.shouldCommit()) {
            event.what = what.name();
            event.commit();
        }
    }
}
