package io.instanttensor.device.cuda;

import static jcuda.driver.JCudaDriver.cuDeviceGet;
import static jcuda.driver.JCudaDriver.cuDeviceGetCount;
import static jcuda.driver.JCudaDriver.cuDeviceGetName;
import static jcuda.driver.JCudaDriver.cuDeviceTotalMem;
import static jcuda.driver.JCudaDriver.cuDriverGetVersion;
import static jcuda.driver.JCudaDriver.cuInit;

import io.instanttensor.device.Device;
import io.instanttensor.device.DeviceException;
import io.instanttensor.device.GpuSurvey;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import jcuda.JCudaVersion;
import jcuda.driver.CUdevice;
import jcuda.driver.CUresult;

/// Asks the driver what there is.
public final class CudaSurvey {
    private static final int NAME_BYTES = 256;

    private CudaSurvey() {}

    /// Never fails: what does is part of the answer.
    ///
    /// @param opened the GPU that is tried: a context is made on it, for as long as it takes to ask for its free
    ///     memory; none where there is no such GPU. The others, which may be busy with other things, are left alone.
    public static GpuSurvey take(int opened) {
        String bindings = JCudaVersion.get();
        try {
            CudaLibrary.requireDriver(CudaLibrary.DRIVER);
        } catch (DeviceException e) {
            return GpuSurvey.without(GpuSurvey.State.NO_DRIVER, e.getMessage(), bindings, 0);
        }
        try {
            CudaLibrary.load();
        } catch (DeviceException e) {
            return GpuSurvey.without(GpuSurvey.State.UNUSABLE, e.getMessage(), bindings, 0);
        }
        int[] version = new int[1];
        int cudaVersion = cuDriverGetVersion(version) == CUresult.CUDA_SUCCESS ? version[0] : 0;
        int initialised = cuInit(0);
        if (initialised != CUresult.CUDA_SUCCESS) {
            GpuSurvey.State state = initialised == CUresult.CUDA_ERROR_NO_DEVICE
                    ? GpuSurvey.State.NO_DEVICE : GpuSurvey.State.UNUSABLE;
            String reason = CuResult.failure(initialised, "cuInit").getMessage();
            return GpuSurvey.without(state, reason, bindings, cudaVersion);
        }
        return counted(bindings, cudaVersion, opened);
    }

    private static GpuSurvey counted(String bindings, int cudaVersion, int opened) {
        try {
            int[] count = new int[1];
            CuResult.check(cuDeviceGetCount(count), "cuDeviceGetCount", () -> "of this machine");
            if (count[0] == 0) {
                return GpuSurvey.without(GpuSurvey.State.NO_DEVICE, "cuDeviceGetCount: 0", bindings, cudaVersion);
            }
            List<GpuSurvey.Gpu> gpus = new ArrayList<>();
            for (int ordinal = 0; ordinal < count[0]; ordinal++) {
                gpus.add(gpu(ordinal, ordinal == opened));
            }
            return new GpuSurvey(GpuSurvey.State.READY, "", bindings, cudaVersion, List.copyOf(gpus));
        } catch (DeviceException e) {
            return GpuSurvey.without(GpuSurvey.State.UNUSABLE, e.getMessage(), bindings, cudaVersion);
        }
    }

    private static GpuSurvey.Gpu gpu(int ordinal, boolean opened) {
        String name = "";
        long totalBytes = 0;
        try {
            CUdevice device = new CUdevice();
            CuResult.check(cuDeviceGet(device, ordinal), "cuDeviceGet", () -> "of cuda:" + ordinal);
            byte[] text = new byte[NAME_BYTES];
            CuResult.check(cuDeviceGetName(text, text.length, device), "cuDeviceGetName", () -> "of cuda:" + ordinal);
            name = text(text);
            long[] total = new long[1];
            CuResult.check(cuDeviceTotalMem(total, device), "cuDeviceTotalMem", () -> "of cuda:" + ordinal);
            totalBytes = total[0];
            return new GpuSurvey.Gpu(name, totalBytes, opened ? freeBytes(ordinal) : GpuSurvey.NOT_ASKED, "");
        } catch (DeviceException e) {
            return new GpuSurvey.Gpu(name, totalBytes, GpuSurvey.NOT_ASKED, e.getMessage());
        }
    }

    private static long freeBytes(int ordinal) {
        try (CudaDevice opened = CudaDevice.open(ordinal); Device.Scope scope = opened.enter()) {
            return opened.memory().freeBytes();
        }
    }

    /// Up to the NUL.
    private static String text(byte[] name) {
        String all = new String(name, StandardCharsets.UTF_8);
        int end = all.indexOf('\0');
        return end < 0 ? all : all.substring(0, end);
    }
}
