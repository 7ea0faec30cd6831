package io.instanttensor.device.cuda;

import static jcuda.driver.JCudaDriver.CU_MEMHOSTALLOC_PORTABLE;
import static jcuda.driver.JCudaDriver.CU_MEMHOSTREGISTER_PORTABLE;
import static jcuda.driver.JCudaDriver.cuMemFreeHost;
import static jcuda.driver.JCudaDriver.cuMemHostAlloc;
import static jcuda.driver.JCudaDriver.cuMemHostRegister;
import static jcuda.driver.JCudaDriver.cuMemHostUnregister;

import io.instanttensor.device.HostPages;
import io.instanttensor.device.StagingMemory;
import io.instanttensor.posix.ErrnoException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Optional;
import jcuda.driver.CUresult;

/// Page-locked host memory, in whole pages. Its segment ends with it, so that no system call writes to memory that
/// was given back.
///
/// The pages are ours, and registered with the driver: 98 MiB of huge pages take three threads 14 ms, the driver's own
/// 40, and while it pins those, no thread of the process can start or get memory.
final class CudaStaging implements StagingMemory {
    private final CudaResource resource;
    private final Runnable unmap;
    private final Arena arena = Arena.ofShared();
    private final MemorySegment segment;

    private CudaStaging(CudaResource resource, long address, long bytes, Runnable unmap) {
        this.resource = resource;
        this.segment = MemorySegment.ofAddress(address).reinterpret(bytes, arena, null);
        this.unmap = unmap;
    }

    static CudaStaging allocate(PrimaryContext context, long bytes) {
        String what = "staging buffer of " + bytes + " bytes of pinned memory for " + context;
        if (bytes > Integer.MAX_VALUE) {
            throw new IllegalArgumentException(
                    what + ": expected at most " + Integer.MAX_VALUE + ", which is what JCuda takes");
        }
        // Where memory is encrypted against its host, the driver registers none, and makes its own.
        return registered(context, what, bytes).orElseGet(() -> madeByDriver(context, what, bytes));
    }

    private static Optional<CudaStaging> registered(PrimaryContext context, String what, long bytes) {
        HostPages pages;
        try {
            pages = HostPages.mapForDevice(what, bytes);
        } catch (ErrnoException e) {
            return Optional.empty();
        }
        // The kernel would fill them with zeros while the driver pins, and nobody else gets into the driver then.
        pages.segment().fill((byte) 0);
        RawPointers.HostPointer pointer = new RawPointers.HostPointer(pages.segment().address());
        if (cuMemHostRegister(pointer, bytes, CU_MEMHOSTREGISTER_PORTABLE) != CUresult.CUDA_SUCCESS) {
            pages.close();
            return Optional.empty();
        }
        CudaResource resource =
                new CudaResource(context, what, "cuMemHostUnregister", () -> cuMemHostUnregister(pointer));
        return Optional.of(new CudaStaging(resource, pointer.address(), bytes, pages::close));
    }

    private static CudaStaging madeByDriver(PrimaryContext context, String what, long bytes) {
        RawPointers.HostPointer pointer = new RawPointers.HostPointer();
        CuResult.check(
                cuMemHostAlloc(pointer, bytes, CU_MEMHOSTALLOC_PORTABLE), "cuMemHostAlloc", () -> "of a " + what);
        CudaResource resource = new CudaResource(context, what, "cuMemFreeHost", () -> cuMemFreeHost(pointer));
        return new CudaStaging(resource, pointer.address(), bytes, () -> {});
    }

    @Override
    public MemorySegment segment() {
        resource.requireOpen();
        return segment;
    }

    /// Where the driver does not let go of the pages, they stay mapped: it would go on reading them, whatever came to
    /// lie at their addresses.
    ///
    /// @throws IllegalStateException while a system call uses the segment; it stays open then
    @Override
    public synchronized void close() {
        if (arena.scope().isAlive()) {
            arena.close();
            resource.close();
            unmap.run();
        }
    }
}
