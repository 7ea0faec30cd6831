package io.instanttensor.device;

import java.util.concurrent.atomic.AtomicBoolean;

/// Whether something that is closed once is still open. Thread-safe: of several who close, one wins.
/// For the implementations of this package's interfaces.
public final class Lifetime {
    private final String what;
    private final AtomicBoolean open = new AtomicBoolean(true);

    /// @param what how a message names it
    public Lifetime(String what) {
        this.what = what;
    }

    /// @throws IllegalStateException that names what was used after its end
    public void requireOpen() {
        if (!open.get()) {
            throw new IllegalStateException(what + " is closed");
        }
    }

    /// @return whether this call ended it; whoever gets true frees what there is to free
    public boolean end() {
        return open.compareAndSet(true, false);
    }

    @Override
    public String toString() {
        return what;
    }
}
