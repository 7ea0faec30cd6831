package io.instanttensor.stage;

import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import java.util.function.LongSupplier;

/// How many reads are in flight at once.
///
/// Where the processor copies, or somebody has set the number, it is fixed. Where readers wait for storage, it follows
/// the throughput, as [ReadRates] has it. Counted is only what comes while nothing else holds readers up: where they
/// wait for the caller or for the device, more reads would not help, and their rate says nothing of the storage.
final class ReadDepth {
    /// A part of the readers' time that they may wait for something else, for their rate to count.
    private static final double HELD_UP = 0.2;
    private static final long STOP_CHECK_MILLIS = 50;
    /// Read since the number has settled, it is looked for once more: by then the memory of the first slabs is used
    /// again. What is touched for the first time can be slower than a fast storage, and more reads bring nothing then.
    static final long SECOND_LOOK_BYTES = 2L << 30;
    /// In bytes a nanosecond; slower storages are slower than any memory.
    private static final double RATE_OF_SLOW_MEMORY = 1;

    private final LongSupplier clock;
    private final boolean measured;
    private final int most;
    private ReadRates rates;
    private boolean lookedTwice;
    private int allowed;
    private int inFlight;
    // Of the present number. As many reads as are in flight are not counted at first: they began under another one.
    private int uncounted;
    private int reads;
    private long bytes;
    private long heldUpNanos;
    private long startNanos;

    /// @param first of the reads in flight, to begin with
    /// @param most of them, ever; where that is no more than `first`, the number is fixed
    ReadDepth(int first, int most) {
        this(first, most, System::nanoTime);
    }

    ReadDepth(int first, int most, LongSupplier clock) {
        this.clock = clock;
        this.allowed = first;
        this.measured = first < most;
        this.most = Math.max(first, most);
        this.rates = new ReadRates(first, this.most);
        this.uncounted = first;
    }

    /// How many may be in flight now.
    synchronized int allowed() {
        return allowed;
    }

    /// Waits until one more read may be in flight. Of a fixed number there are as many readers, and none waits.
    ///
    /// @return whether it is; false once the load has been stopped
    boolean begin(BooleanSupplier stopped) throws InterruptedException {
        return !measured || beginMeasured(stopped);
    }

    private synchronized boolean beginMeasured(BooleanSupplier stopped) throws InterruptedException {
        while (inFlight >= allowed) {
            if (stopped.getAsBoolean()) {
                return false;
            }
            TimeUnit.MILLISECONDS.timedWait(this, STOP_CHECK_MILLIS);
        }
        inFlight++;
        return true;
    }

    /// A read is over, in whatever way.
    ///
    /// @param readBytes that came
    /// @param waitedNanos for anything but the read itself
    /// @return how many readers it takes from now on; 0: as many as there are
    int end(long readBytes, long waitedNanos) {
        return measured ? endMeasured(readBytes, waitedNanos) : 0;
    }

    private synchronized int endMeasured(long readBytes, long waitedNanos) {
        inFlight--;
        notify();
        if (rates.settled()) {
            if (!lookedTwice) {
                lookAgain(readBytes);
            }
            return 0;
        }
        if (uncounted > 0) {
            uncounted--;
            startNanos = clock.getAsLong();
            return 0;
        }
        reads++;
        bytes += readBytes;
        heldUpNanos += waitedNanos;
        if (reads < allowed) {
            return 0;
        }
        judge(clock.getAsLong());
        return allowed;
    }

    private void lookAgain(long readBytes) {
        bytes += readBytes;
        if (bytes < SECOND_LOOK_BYTES) {
            return;
        }
        lookedTwice = true;
        long now = clock.getAsLong();
        if (allowed < most && bytes > RATE_OF_SLOW_MEMORY * (now - startNanos)) {
            rates = new ReadRates(allowed, most);
            startNanos = now;
            again(allowed, inFlight);
        }
    }

    private void judge(long now) {
        long nanos = now - startNanos;
        if (heldUpNanos > HELD_UP * nanos * allowed) {
            again(allowed, allowed);
            return;
        }
        rates.add((double) bytes / nanos);
        int next = rates.next();
        startNanos = now;
        again(next, next == allowed ? 0 : Math.max(next, inFlight));
    }

    private void again(int next, int withoutCounting) {
        allowed = next;
        uncounted = withoutCounting;
        reads = 0;
        bytes = 0;
        heldUpNanos = 0;
        notifyAll();
    }
}
