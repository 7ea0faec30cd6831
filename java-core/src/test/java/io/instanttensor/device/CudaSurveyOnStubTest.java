package io.instanttensor.device;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.instanttensor.device.GpuSurvey.Gpu;
import io.instanttensor.device.GpuSurvey.State;
import io.instanttensor.device.cuda.CudaSurvey;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/// What the driver of `tests/stub-cuda` says of itself. Every test ends with nothing live in it.
class CudaSurveyOnStubTest {
    private static final long GIB = 1L << 30;
    private static final long OUT_OF_MEMORY = 2;
    private static final long NO_DEVICE = 100;
    private static final long DRIVER_MISMATCH = 803;

    @BeforeEach
    void loadStub() {
        StubCuda.load();
    }

    @AfterEach
    void nothingIsLive() {
        StubCuda.assertNothingIsLive("after the survey");
        StubCuda.reset();
    }

    @Test
    void everyGpuIsNamedWithItsMemory() {
        StubCuda.devices(2);
        StubCuda.memoryBytes(6 * GIB);
        assertEquals(new GpuSurvey(State.READY, "", "12.6.0", 12060,
                List.of(new Gpu("Stub GPU 0", 6 * GIB, 6 * GIB, ""), new Gpu("Stub GPU 1", 6 * GIB, 6 * GIB, ""))),
                CudaSurvey.take());
    }

    @Test
    void gpuThatGivesNoContextIsNamedWithTheReason() {
        StubCuda.devices(2);
        StubCuda.fail("cuDevicePrimaryCtxRetain", 1, OUT_OF_MEMORY);
        assertEquals(List.of(
                new Gpu("Stub GPU 0", 4 * GIB, 0, "cuDevicePrimaryCtxRetain of cuda:0: CUDA_ERROR_OUT_OF_MEMORY (2)"),
                new Gpu("Stub GPU 1", 4 * GIB, 4 * GIB, "")),
                CudaSurvey.take().gpus());
    }

    @Test
    void driverWithoutAGpuIsNoFailure() {
        StubCuda.devices(0);
        assertEquals(new GpuSurvey(State.NO_DEVICE, "cuDeviceGetCount: 0", "12.6.0", 12060, List.of()),
                CudaSurvey.take());
        StubCuda.fail("cuInit", 1, NO_DEVICE);
        assertEquals(new GpuSurvey(State.NO_DEVICE, "cuInit: CUDA_ERROR_NO_DEVICE (100)", "12.6.0", 12060, List.of()),
                CudaSurvey.take());
    }

    @Test
    void driverThatDoesNotWorkSaysWhy() {
        StubCuda.fail("cuInit", 1, DRIVER_MISMATCH);
        assertEquals(new GpuSurvey(State.UNUSABLE, "cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)", "12.6.0", 12060,
                List.of()), CudaSurvey.take());
        StubCuda.fail("cuDeviceGetName", 1, DRIVER_MISMATCH);
        assertEquals(new GpuSurvey(State.UNUSABLE,
                "cuDeviceGetName of cuda:0: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)", "12.6.0", 12060, List.of()),
                CudaSurvey.take());
    }

    @Test
    void driverThatHidesItsVersionIsUsedAllTheSame() {
        StubCuda.fail("cuDriverGetVersion", 1, DRIVER_MISMATCH);
        GpuSurvey survey = CudaSurvey.take();
        assertEquals(State.READY, survey.state());
        assertEquals(0, survey.cudaVersion());
    }
}
