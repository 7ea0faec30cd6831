package io.instanttensor.slab;

import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.instanttensor.read.Backend;
import io.instanttensor.read.IoUringProbe;
import java.io.IOException;
import org.junit.jupiter.api.BeforeEach;

/// Loads to the host by io_uring.
class HostLoadByRingTest extends HostLoadTest {
    @BeforeEach
    @Override
    void open() throws IOException {
        super.open();
        assumeTrue(IoUringProbe.refusal().isEmpty(), IoUringProbe::refusal);
    }

    @Override
    Backend buffered() {
        return Backend.URING_BUFFERED;
    }

    @Override
    Backend direct() {
        return Backend.URING;
    }
}
