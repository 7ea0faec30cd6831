package io.instanttensor.file;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;

/// What a thread is reading at the moment, for whoever wonders why nothing comes. Owned by that thread.
public final class ReadUnderWay implements AutoCloseable {
    private static final Set<ReadUnderWay> ALL = ConcurrentHashMap.newKeySet();

    private Path file;
    private long offset;
    private long bytes;
    private boolean told;
    /// 0 between reads.
    private long startNanos;

    private ReadUnderWay() {}

    public static ReadUnderWay ofThread() {
        ReadUnderWay made = new ReadUnderWay();
        ALL.add(made);
        return made;
    }

    /// A read begins.
    public void begin(CheckpointFile from, long fromOffset, long wantedBytes) {
        begin(from.path(), fromOffset, wantedBytes);
    }

    synchronized void begin(Path from, long fromOffset, long wantedBytes) {
        file = from;
        offset = fromOffset;
        bytes = wantedBytes;
        told = false;
        startNanos = Math.max(1, System.nanoTime());
    }

    /// It has come back.
    public synchronized void end() {
        startNanos = 0;
    }

    @Override
    public void close() {
        ALL.remove(this);
    }

    /// Reads of this process that have taken so long and are not back, in words for the user; each is told of once.
    public static List<String> slow(long millis) {
        List<String> found = new ArrayList<>();
        for (ReadUnderWay each : ALL) {
            each.tell(millis, found);
        }
        return found;
    }

    private synchronized void tell(long millis, List<String> found) {
        long nanos = System.nanoTime() - startNanos;
        if (startNanos != 0 && !told && nanos >= TimeUnit.MILLISECONDS.toNanos(millis)) {
            told = true;
            found.add(String.format(Locale.ROOT, "%s: a read of %,d bytes at %,d has taken %d s, and goes on",
                    file, bytes, offset, TimeUnit.NANOSECONDS.toSeconds(nanos)));
        }
    }
}
