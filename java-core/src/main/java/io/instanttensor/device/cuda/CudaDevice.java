package io.instanttensor.device.cuda;

import static jcuda.driver.JCudaDriver.cuDeviceGet;
import static jcuda.driver.JCudaDriver.cuDeviceGetCount;
import static jcuda.driver.JCudaDriver.cuInit;
import static jcuda.driver.JCudaDriver.cuMemGetInfo;

import io.instanttensor.device.ConsumerStream;
import io.instanttensor.device.CopyStream;
import io.instanttensor.device.Device;
import io.instanttensor.device.DeviceException;
import io.instanttensor.device.DeviceId;
import io.instanttensor.device.DeviceMemory;
import io.instanttensor.device.Fence;
import io.instanttensor.device.Lifetime;
import io.instanttensor.device.MemoryInfo;
import io.instanttensor.device.OutOfDeviceMemoryException;
import io.instanttensor.device.StagingMemory;
import java.io.IOException;
import jcuda.driver.CUdevice;

/// An NVIDIA GPU, through the driver's API and in its primary context, which is the one torch works in.
public final class CudaDevice implements Device {
    private final DeviceId id;
    private final PrimaryContext context;
    private final Lifetime lifetime;

    private CudaDevice(DeviceId id, PrimaryContext context) {
        this.id = id;
        this.context = context;
        this.lifetime = new Lifetime("device " + id);
    }

    /// Loads JCuda's library, where somebody has loaded the driver already.
    public static void bindDriver() throws IOException {
        CudaLibrary.bindToLoadedDriver();
    }

    /// Loads the driver where that has not happened yet, and retains the device's primary context.
    ///
    /// @throws DeviceException where there is no driver, no JCuda library or no such device
    public static CudaDevice open(int ordinal) {
        DeviceId id = new DeviceId(DeviceId.Kind.CUDA, ordinal);
        CudaLibrary.load();
        CuResult.check(cuInit(0), "cuInit", () -> "for " + id);
        int[] count = new int[1];
        CuResult.check(cuDeviceGetCount(count), "cuDeviceGetCount", () -> "for " + id);
        if (ordinal >= count[0]) {
            throw new DeviceException("no such device " + id + ": this machine has " + count[0]);
        }
        CUdevice device = new CUdevice();
        CuResult.check(cuDeviceGet(device, ordinal), "cuDeviceGet", () -> "of " + id);
        return new CudaDevice(id, PrimaryContext.retain(device, id.toString()));
    }

    @Override
    public DeviceId id() {
        return id;
    }

    @Override
    public Scope enter() {
        lifetime.requireOpen();
        return context.enter();
    }

    @Override
    public MemoryInfo memory() {
        lifetime.requireOpen();
        long[] free = new long[1];
        long[] total = new long[1];
        CuResult.check(cuMemGetInfo(free, total), "cuMemGetInfo", () -> "of " + id);
        return new MemoryInfo(free[0], total[0]);
    }

    @Override
    public DeviceMemory allocate(long bytes) {
        lifetime.requireOpen();
        requirePositive(bytes, "slab");
        return CudaMemory.allocate(context, bytes)
                .orElseThrow(() -> new OutOfDeviceMemoryException(id.toString(), bytes, memory()));
    }

    @Override
    public DeviceMemory borrow(long address, long bytes) {
        lifetime.requireOpen();
        return CudaMemory.borrow(context, address, bytes);
    }

    @Override
    public StagingMemory allocateStaging(long bytes) {
        lifetime.requireOpen();
        requirePositive(bytes, "staging buffer");
        return CudaStaging.allocate(context, bytes);
    }

    private void requirePositive(long bytes, String what) {
        if (bytes < 1) {
            throw new IllegalArgumentException(
                    what + " of " + bytes + " bytes on " + id + ": expected 1 byte or more");
        }
    }

    @Override
    public CopyStream openStream() {
        lifetime.requireOpen();
        return CudaStream.create(context);
    }

    @Override
    public ConsumerStream consumerStream(long handle) {
        lifetime.requireOpen();
        return CudaConsumer.of(context, handle);
    }

    @Override
    public Fence newFence() {
        lifetime.requireOpen();
        return CudaFence.create(context);
    }

    @Override
    public void close() {
        if (lifetime.end()) {
            context.drop();
        }
    }
}
