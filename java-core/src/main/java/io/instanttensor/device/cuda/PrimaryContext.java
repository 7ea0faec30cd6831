package io.instanttensor.device.cuda;

import static jcuda.driver.JCudaDriver.cuCtxPopCurrent;
import static jcuda.driver.JCudaDriver.cuCtxPushCurrent;
import static jcuda.driver.JCudaDriver.cuDevicePrimaryCtxRelease;
import static jcuda.driver.JCudaDriver.cuDevicePrimaryCtxRetain;

import io.instanttensor.device.Device;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.IntSupplier;
import jcuda.driver.CUcontext;
import jcuda.driver.CUdevice;
import jcuda.driver.CUresult;

/// A device's primary context, which the process shares with torch. Retained until the device and
/// everything made in it are closed, in whatever order, so that its handle is never used after its end.
final class PrimaryContext {
    private final CUdevice device;
    private final CUcontext context;
    private final String name;
    private final AtomicInteger users = new AtomicInteger(1);

    private PrimaryContext(CUdevice device, CUcontext context, String name) {
        this.device = device;
        this.context = context;
        this.name = name;
    }

    /// Its first user is the caller, who gives it back with [#drop()].
    static PrimaryContext retain(CUdevice device, String name) {
        CUcontext context = new CUcontext();
        CuResult.check(cuDevicePrimaryCtxRetain(context, device), "cuDevicePrimaryCtxRetain", () -> "of " + name);
        return new PrimaryContext(device, context, name);
    }

    /// Adds a user.
    void use() {
        if (users.getAndUpdate(count -> count == 0 ? 0 : count + 1) == 0) {
            throw new IllegalStateException("device " + name + " is closed");
        }
    }

    /// Takes a user away; the last one gives the context back.
    void drop() {
        if (users.decrementAndGet() == 0) {
            checkRelease(cuDevicePrimaryCtxRelease(device), "cuDevicePrimaryCtxRelease", "of " + name);
        }
    }

    Device.Scope enter() {
        use();
        int pushed = cuCtxPushCurrent(context);
        if (pushed != CUresult.CUDA_SUCCESS) {
            drop();
            throw CuResult.failure(pushed, "cuCtxPushCurrent", "of " + name);
        }
        return new CurrentScope(this);
    }

    /// Gives a driver object back, from a thread that need not have entered. Tries to even where the
    /// context cannot be made current, since the caller may have done so.
    void release(String what, String call, IntSupplier release) {
        int pushed = cuCtxPushCurrent(context);
        if (CuResult.isGone(pushed)) {
            return;
        }
        int released = release.getAsInt();
        int popped = pushed == CUresult.CUDA_SUCCESS ? cuCtxPopCurrent(new CUcontext()) : CUresult.CUDA_SUCCESS;
        checkRelease(pushed, "cuCtxPushCurrent", "to free the " + what);
        checkRelease(released, call, "of the " + what);
        checkRelease(popped, "cuCtxPopCurrent", "after freeing the " + what);
    }

    private static void checkRelease(int result, String call, String what) {
        if (!CuResult.isGone(result)) {
            CuResult.check(result, call, () -> what);
        }
    }

    @Override
    public String toString() {
        return name;
    }

    /// The context on top of the thread's stack, until closed.
    private static final class CurrentScope implements Device.Scope {
        private final PrimaryContext owner;
        private final Thread thread = Thread.currentThread();
        private boolean open = true;

        CurrentScope(PrimaryContext owner) {
            this.owner = owner;
        }

        @Override
        public void close() {
            if (Thread.currentThread() != thread) {
                throw new IllegalStateException("the scope of " + owner + " was entered on thread "
                        + thread.getName() + ", and is closed on " + Thread.currentThread().getName());
            }
            if (!open) {
                return;
            }
            open = false;
            try {
                checkRelease(cuCtxPopCurrent(new CUcontext()), "cuCtxPopCurrent", "of " + owner);
            } finally {
                owner.drop();
            }
        }
    }
}
