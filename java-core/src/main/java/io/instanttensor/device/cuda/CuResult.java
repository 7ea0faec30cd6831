package io.instanttensor.device.cuda;

import io.instanttensor.device.DeviceException;
import java.util.function.Supplier;
import jcuda.driver.CUresult;

/// From result codes to exceptions.
final class CuResult {
    private CuResult() {}

    /// @param what what was asked for, as it follows the call's name: `of 8 bytes on cuda:0`
    static void check(int result, String call, Supplier<String> what) {
        if (result != CUresult.CUDA_SUCCESS) {
            throw failure(result, call, what.get());
        }
    }

    /// The same for what is called thousands of times, and first by readers that wait for each other.
    ///
    /// @param what follows `relation`
    static void check(int result, String call, String relation, Object what) {
        if (result != CUresult.CUDA_SUCCESS) {
            throw failure(result, call, relation + what);
        }
    }

    /// @return `cuMemAlloc of 8 bytes on cuda:0: CUDA_ERROR_UNKNOWN (999)`
    static DeviceException failure(int result, String call, String what) {
        return failure(result, call + " " + what);
    }

    /// @return `cuInit: CUDA_ERROR_UNKNOWN (999)`
    static DeviceException failure(int result, String call) {
        return new DeviceException(call + ": " + CUresult.stringFor(result) + " (" + result + ")");
    }

    /// Whether the driver or the context is gone, and with it everything that was made there: what is
    /// given back then is no longer anybody's. So it is while the process exits.
    static boolean isGone(int result) {
        return result == CUresult.CUDA_ERROR_DEINITIALIZED || result == CUresult.CUDA_ERROR_CONTEXT_IS_DESTROYED;
    }
}
