package io.instanttensor.device.cuda;

import io.instanttensor.device.Lifetime;
import java.util.function.IntSupplier;

/// One object of the driver's, made in a context and given back once. A user of the context until then.
final class CudaResource implements AutoCloseable {
    private final PrimaryContext context;
    private final Lifetime lifetime;
    private final String releaseCall;
    private final IntSupplier release;

    /// @param what how messages name it
    /// @param releaseCall the name of the call that `release` makes; it answers with its result code
    CudaResource(PrimaryContext context, String what, String releaseCall, IntSupplier release) {
        context.use();
        this.context = context;
        this.lifetime = new Lifetime(what);
        this.releaseCall = releaseCall;
        this.release = release;
    }

    PrimaryContext context() {
        return context;
    }

    void requireOpen() {
        lifetime.requireOpen();
    }

    /// Not repeated where it fails: the driver's answer does not tell whether the object still exists.
    @Override
    public void close() {
        if (!lifetime.end()) {
            return;
        }
        try {
            context.release(lifetime.toString(), releaseCall, release);
        } finally {
            context.drop();
        }
    }

    @Override
    public String toString() {
        return lifetime.toString();
    }
}
