package io.instanttensor.slab;

import io.instanttensor.read.Backend;

/// Loads to the CUDA device out of mappings.
class CudaLoadByMappingOnStubTest extends CudaLoadOnStubTest {
    @Override
    Backend buffered() {
        return Backend.MMAP;
    }
}
