package io.instanttensor.device.cuda;

import io.instanttensor.device.ConsumerStream;
import io.instanttensor.device.Fence;
import jcuda.driver.CUstream;

/// The caller's stream, by its number.
record CudaConsumer(PrimaryContext context, CUstream stream, String name) implements ConsumerStream {
    static CudaConsumer of(PrimaryContext context, long handle) {
        return new CudaConsumer(context, RawPointers.stream(handle),
                "consumer stream 0x" + Long.toHexString(handle) + " of " + context);
    }

    @Override
    public void record(Fence fence) {
        CudaFence.of(fence, context).recordIn(stream, name);
    }

    @Override
    public void waitFor(Fence fence) {
        CudaFence.of(fence, context).holdUp(stream, name);
    }
}
