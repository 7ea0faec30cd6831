package io.instanttensor.device.cuda;

import static jcuda.driver.JCudaDriver.cuMemAlloc;
import static jcuda.driver.JCudaDriver.cuMemFree;

import io.instanttensor.device.DeviceMemory;
import java.lang.foreign.MemorySegment;
import java.util.Optional;
import jcuda.driver.CUdeviceptr;
import jcuda.driver.CUresult;

/// A slab in device memory.
final class CudaMemory implements DeviceMemory {
    private final CudaResource resource;
    private final RawPointers.DevicePointer pointer;
    private final long bytes;

    private CudaMemory(CudaResource resource, RawPointers.DevicePointer pointer, long bytes) {
        this.resource = resource;
        this.pointer = pointer;
        this.bytes = bytes;
    }

    /// Empty where the device has not that much.
    static Optional<DeviceMemory> allocate(PrimaryContext context, long bytes) {
        String what = "slab of " + bytes + " bytes on " + context;
        RawPointers.DevicePointer pointer = new RawPointers.DevicePointer();
        int result = cuMemAlloc(pointer, bytes);
        if (result == CUresult.CUDA_ERROR_OUT_OF_MEMORY) {
            return Optional.empty();
        }
        CuResult.check(result, "cuMemAlloc", () -> "of a " + what);
        return Optional.of(new CudaMemory(
                new CudaResource(context, what, "cuMemFree", () -> cuMemFree(pointer)), pointer, bytes));
    }

    /// The caller's, who frees it.
    static DeviceMemory borrow(PrimaryContext context, long address, long bytes) {
        String what = "memory of " + bytes + " bytes, not ours, on " + context;
        return new CudaMemory(
                new CudaResource(context, what, "nothing", () -> CUresult.CUDA_SUCCESS),
                RawPointers.device(address), bytes);
    }

    /// @throws IllegalArgumentException for memory of another device
    static CudaMemory of(DeviceMemory memory, PrimaryContext context) {
        if (memory instanceof CudaMemory cuda && cuda.resource.context() == context) {
            return cuda;
        }
        throw new IllegalArgumentException("the target of the copy is not memory of " + context + ": " + memory);
    }

    CUdeviceptr pointer(long offset) {
        resource.requireOpen();
        return pointer.withByteOffset(offset);
    }

    @Override
    public long address() {
        resource.requireOpen();
        return pointer.address();
    }

    @Override
    public long bytes() {
        return bytes;
    }

    @Override
    public Optional<MemorySegment> hostView() {
        resource.requireOpen();
        return Optional.empty();
    }

    @Override
    public void close() {
        resource.close();
    }

    @Override
    public String toString() {
        return resource.toString();
    }
}
