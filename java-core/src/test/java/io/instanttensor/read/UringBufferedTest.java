package io.instanttensor.read;

import static org.junit.jupiter.api.Assumptions.assumeTrue;

class UringBufferedTest extends BufferedReadContract {
    @Override
    Backend backend() {
        return Backend.URING_BUFFERED;
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
