package io.instanttensor.device.cuda;

import static jcuda.driver.JCudaDriver.cuEventCreate;
import static jcuda.driver.JCudaDriver.cuEventDestroy;
import static jcuda.driver.JCudaDriver.cuEventQuery;
import static jcuda.driver.JCudaDriver.cuEventRecord;
import static jcuda.driver.JCudaDriver.cuEventSynchronize;
import static jcuda.driver.JCudaDriver.cuStreamWaitEvent;

import io.instanttensor.device.Fence;
import jcuda.driver.CUevent;
import jcuda.driver.CUevent_flags;
import jcuda.driver.CUresult;
import jcuda.driver.CUstream;

/// An event. Whoever waits for it sleeps, and leaves the core to the readers.
final class CudaFence implements Fence {
    private static final int FLAGS = CUevent_flags.CU_EVENT_DISABLE_TIMING | CUevent_flags.CU_EVENT_BLOCKING_SYNC;

    private final CudaResource resource;
    private final CUevent event;

    private CudaFence(CudaResource resource, CUevent event) {
        this.resource = resource;
        this.event = event;
    }

    static CudaFence create(PrimaryContext context) {
        String what = "fence of " + context;
        CUevent event = new CUevent();
        CuResult.check(cuEventCreate(event, FLAGS), "cuEventCreate", "for a ", what);
        return new CudaFence(new CudaResource(context, what, "cuEventDestroy", () -> cuEventDestroy(event)), event);
    }

    /// @throws IllegalArgumentException for another device's fence
    static CudaFence of(Fence fence, PrimaryContext context) {
        if (fence instanceof CudaFence cuda && cuda.resource.context() == context) {
            return cuda;
        }
        throw new IllegalArgumentException("the fence is not one of " + context + ": " + fence);
    }

    void recordIn(CUstream stream, String streamName) {
        resource.requireOpen();
        CuResult.check(cuEventRecord(event, stream), "cuEventRecord", "in a ", streamName);
    }

    void holdUp(CUstream stream, String streamName) {
        resource.requireOpen();
        CuResult.check(cuStreamWaitEvent(stream, event, 0), "cuStreamWaitEvent", "in a ", streamName);
    }

    @Override
    public boolean passed() {
        resource.requireOpen();
        int result = cuEventQuery(event);
        if (result == CUresult.CUDA_ERROR_NOT_READY) {
            return false;
        }
        CuResult.check(result, "cuEventQuery", "of a ", resource);
        return true;
    }

    @Override
    public void await() {
        resource.requireOpen();
        CuResult.check(cuEventSynchronize(event), "cuEventSynchronize", "of a ", resource);
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
