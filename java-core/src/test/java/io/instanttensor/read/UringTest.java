package io.instanttensor.read;

import static org.junit.jupiter.api.Assumptions.assumeTrue;

class UringTest extends ReadContract {
    @Override
    Backend backend() {
        return Backend.URING;
    }

    @Override
    String call() {
        return "io_uring read";
    }

    @Override
    void assumeUsable() {
        assumeTrue(IoUringProbe.refusal().isEmpty(), IoUringProbe::refusal);
    }
}
