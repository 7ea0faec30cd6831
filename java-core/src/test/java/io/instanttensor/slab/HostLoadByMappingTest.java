package io.instanttensor.slab;

import io.instanttensor.read.Backend;

/// Loads to the host out of mappings.
class HostLoadByMappingTest extends HostLoadTest {
    @Override
    Backend buffered() {
        return Backend.MMAP;
    }
}
