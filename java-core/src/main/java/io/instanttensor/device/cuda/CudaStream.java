package io.instanttensor.device.cuda;

import static jcuda.driver.JCudaDriver.cuMemcpyHtoDAsync;
import static jcuda.driver.JCudaDriver.cuStreamCreate;
import static jcuda.driver.JCudaDriver.cuStreamDestroy;

import io.instanttensor.device.CopyStream;
import io.instanttensor.device.DeviceMemory;
import io.instanttensor.device.Fence;
import java.lang.foreign.MemorySegment;
import jcuda.driver.CUstream;
import jcuda.driver.CUstream_flags;

/// A stream that the default stream's work neither waits for nor holds up.
final class CudaStream implements CopyStream {
    private final CudaResource resource;
    private final CUstream stream;

    private CudaStream(CudaResource resource, CUstream stream) {
        this.resource = resource;
        this.stream = stream;
    }

    static CudaStream create(PrimaryContext context) {
        String what = "copy stream of " + context;
        CUstream stream = new CUstream();
        CuResult.check(
                cuStreamCreate(stream, CUstream_flags.CU_STREAM_NON_BLOCKING), "cuStreamCreate",
                () -> "for a " + what);
        return new CudaStream(
                new CudaResource(context, what, "cuStreamDestroy", () -> cuStreamDestroy(stream)), stream);
    }

    @Override
    public void copy(MemorySegment source, DeviceMemory target, long targetOffset) {
        resource.requireOpen();
        long bytes = source.byteSize();
        CudaMemory memory = CudaMemory.of(target, resource.context());
        memory.requireInside(targetOffset, bytes);
        if (!source.isNative() || !source.scope().isAlive()) {
            throw new IllegalArgumentException("the source of a copy of " + bytes + " bytes to " + resource.context()
                    + " is " + (source.isNative() ? "closed" : "on the Java heap")
                    + ": expected native memory that is open");
        }
        if (bytes > 0) {
            CuResult.check(
                    cuMemcpyHtoDAsync(memory.pointer(targetOffset), RawPointers.host(source), bytes, stream),
                    "cuMemcpyHtoDAsync", () -> "of " + bytes + " bytes to offset " + targetOffset + " of a " + memory);
        }
    }

    @Override
    public void record(Fence fence) {
        resource.requireOpen();
        CudaFence.of(fence, resource.context()).recordIn(stream, resource.toString());
    }

    @Override
    public void waitFor(Fence fence) {
        resource.requireOpen();
        CudaFence.of(fence, resource.context()).holdUp(stream, resource.toString());
    }

    @Override
    public void close() {
        resource.close();
    }
}
