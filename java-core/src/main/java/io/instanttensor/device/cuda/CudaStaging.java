package io.instanttensor.device.cuda;

import static jcuda.driver.JCudaDriver.CU_MEMHOSTALLOC_PORTABLE;
import static jcuda.driver.JCudaDriver.cuMemFreeHost;
import static jcuda.driver.JCudaDriver.cuMemHostAlloc;

import io.instanttensor.device.StagingMemory;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/// Page-locked host memory from the driver, in whole pages. Its segment ends with it, so that no system
/// call writes to memory that was given back.
final class CudaStaging implements StagingMemory {
    private final CudaResource resource;
    private final Arena arena = Arena.ofShared();
    private final MemorySegment segment;

    private CudaStaging(CudaResource resource, long address, long bytes) {
        this.resource = resource;
        this.segment = MemorySegment.ofAddress(address).reinterpret(bytes, arena, null);
    }

    static CudaStaging allocate(PrimaryContext context, long bytes) {
        String what = "staging buffer of " + bytes + " bytes of pinned memory for " + context;
        if (bytes > Integer.MAX_VALUE) {
            throw new IllegalArgumentException(
                    what + ": expected at most " + Integer.MAX_VALUE + ", which is what JCuda takes");
        }
        RawPointers.HostPointer pointer = new RawPointers.HostPointer();
        CuResult.check(
                cuMemHostAlloc(pointer, bytes, CU_MEMHOSTALLOC_PORTABLE), "cuMemHostAlloc", () -> "of a " + what);
        return new CudaStaging(
                new CudaResource(context, what, "cuMemFreeHost", () -> cuMemFreeHost(pointer)),
                pointer.address(), bytes);
    }

    @Override
    public MemorySegment segment() {
        resource.requireOpen();
        return segment;
    }

    /// @throws IllegalStateException while a system call uses the segment; it stays open then
    @Override
    public synchronized void close() {
        if (arena.scope().isAlive()) {
            arena.close();
        }
        resource.close();
    }
}
