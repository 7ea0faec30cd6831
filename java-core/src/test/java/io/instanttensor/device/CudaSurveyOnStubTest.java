package io.instanttensor.device;

import static io.instanttensor.device.GpuSurvey.NOT_ASKED;
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
    private static final int NONE = -1;
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
    void everyGpuIsNamedWithItsMemoryAndOneIsOpened() {
        StubCuda.devices(2);
        StubCuda.memoryBytes(6 * GIB);
        assertEquals(new GpuSurvey(State.READY, "", "12.6.0", 12060,
                List.of(new Gpu("Stub GPU 0", 6 * GIB, NOT_ASKED, ""), new Gpu("Stub GPU 1", 6 * GIB, 6 * GIB, ""))),
                CudaSurvey.take(1));
    }

    @Test
    void gpuThatGivesNoContextIsNamedWithTheReason() {
        StubCuda.devices(2);
        StubCuda.fail("cuDevicePrimaryCtxRetain", 1, OUT_OF_MEMORY);
        assertEquals(List.of(
                new Gpu("Stub GPU 0", 4 * GIB, NOT_ASKED,
                        "cuDevicePrimaryCtxRetain of cuda:0: CUDA_ERROR_OUT_OF_MEMORY (2)"),
                new Gpu("Stub GPU 1", 4 * GIB, NOT_ASKED, "")),
                CudaSurvey.take(0).gpus());
    }

    @Test
    void driverWithoutAGpuIsNoFailure() {
        StubCuda.devices(0);
        assertEquals(new GpuSurvey(State.NO_DEVICE, "cuDeviceGetCount: 0", "12.6.0", 12060, List.of()),
                CudaSurvey.take(0));
        StubCuda.fail("cuInit", 1, NO_DEVICE);
        assertEquals(new GpuSurvey(State.NO_DEVICE, "cuInit: CUDA_ERROR_NO_DEVICE (100)", "12.6.0", 12060, List.of()),
                CudaSurvey.take(0));
    }

    @Test
    void driverThatDoesNotWorkSaysWhy() {
        StubCuda.fail("cuInit", 1, DRIVER_MISMATCH);
        assertEquals(new GpuSurvey(State.UNUSABLE, "cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)", "12.6.0", 12060,
                List.of()), CudaSurvey.take(0));
    }

    @Test
    void gpuThatDoesNotAnswerIsListedWithTheReason() {
        StubCuda.devices(2);
        StubCuda.fail("cuDeviceGetName", 1, DRIVER_MISMATCH);
        assertEquals(List.of(
                new Gpu("", 0, NOT_ASKED, "cuDeviceGetName of cuda:0: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)"),
                new Gpu("Stub GPU 1", 4 * GIB, NOT_ASKED, "")),
                CudaSurvey.take(NONE).gpus());
    }

    @Test
    void driverThatHidesItsVersionIsUsedAllTheSame() {
        StubCuda.fail("cuDriverGetVersion", 1, DRIVER_MISMATCH);
        GpuSurvey survey = CudaSurvey.take(0);
        assertEquals(State.READY, survey.state());
        assertEquals(0, survey.cudaVersion());
    }
}
