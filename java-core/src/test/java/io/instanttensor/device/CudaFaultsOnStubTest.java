package io.instanttensor.device;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.instanttensor.device.cuda.CudaDevice;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/// Each of the driver's calls made to fail, each time it is made, over a load in small.
class CudaFaultsOnStubTest {
    private static final int UNKNOWN = 999;

    @BeforeAll
    static void loadStub() {
        StubCuda.load();
    }

    @AfterEach
    void forgetFaults() {
        StubCuda.reset();
    }

    @ParameterizedTest
    @ValueSource(strings = {
        "cuInit", "cuDeviceGetCount", "cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuDevicePrimaryCtxRelease",
        "cuCtxPushCurrent", "cuCtxPopCurrent", "cuMemGetInfo", "cuMemAlloc", "cuMemFree",
        "cuMemHostUnregister", "cuStreamCreate", "cuStreamDestroy", "cuStreamWaitEvent", "cuMemcpyHtoDAsync",
        "cuEventCreate", "cuEventDestroy", "cuEventRecord", "cuEventQuery", "cuEventSynchronize"})
    void failureIsAnExceptionThatNamesTheCallAndLeavesNothing(String call) {
        load();
        long calls = StubCuda.calls(call);
        assertTrue(calls > 0, call + " is not part of the load");
        for (long nth = 1; nth <= calls; nth++) {
            StubCuda.reset();
            StubCuda.fail(call, nth, UNKNOWN);
            String message = assertThrows(DeviceException.class, CudaFaultsOnStubTest::load).getMessage();
            assertTrue(message.startsWith(call + " ") && message.endsWith(": CUDA_ERROR_UNKNOWN (999)"), message);
            assertEquals(0, StubCuda.pendingFaults());
            StubCuda.assertNothingIsLive("after call " + nth + " of " + call + " failed");
        }
    }

    @Test
    void messageSaysWhatWasAskedFor() {
        StubCuda.fail("cuMemcpyHtoDAsync", 1, 700);
        assertEquals("cuMemcpyHtoDAsync of 4096 bytes to offset 0 of a slab of 8192 bytes on cuda:0: "
                + "CUDA_ERROR_ILLEGAL_ADDRESS (700)",
                assertThrows(DeviceException.class, CudaFaultsOnStubTest::load).getMessage());
    }

    @Test
    void memoryThatCannotBeRegisteredIsMadeByTheDriver() {
        StubCuda.fail("cuMemHostRegister", 1, 801);
        load();
        assertEquals(1, StubCuda.calls("cuMemHostAlloc"));
        assertEquals(1, StubCuda.calls("cuMemFreeHost"));
        StubCuda.assertNothingIsLive("after the driver made the memory");
    }

    @ParameterizedTest
    @ValueSource(strings = {"cuMemHostAlloc", "cuMemFreeHost"})
    void failureBehindThatIsAnExceptionToo(String call) {
        StubCuda.fail("cuMemHostRegister", 1, 801);
        StubCuda.fail(call, 1, UNKNOWN);
        String message = assertThrows(DeviceException.class, CudaFaultsOnStubTest::load).getMessage();
        assertTrue(message.startsWith(call + " ") && message.endsWith(": CUDA_ERROR_UNKNOWN (999)"), message);
        StubCuda.assertNothingIsLive("after " + call + " failed");
    }

    @ParameterizedTest
    @CsvSource({
        "cuMemFree, 4", "cuMemFree, 709", "cuMemHostUnregister, 4", "cuStreamDestroy, 709", "cuEventDestroy, 4",
        "cuDevicePrimaryCtxRelease, 4", "cuCtxPopCurrent, 709"})
    void freeingWhatWentWithItsContextIsNoError(String call, long code) {
        StubCuda.fail(call, 1, code);
        load();
        assertEquals(0, StubCuda.pendingFaults());
        StubCuda.assertNothingIsLive("after " + call + " answered " + code);
    }

    private static void load() {
        try (Device device = CudaDevice.open(0);
                Device.Scope _ = device.enter();
                DeviceMemory slab = device.allocate(Math.min(8192, device.memory().freeBytes()));
                StagingMemory staging = device.allocateStaging(4096);
                CopyStream first = device.openStream();
                CopyStream second = device.openStream();
                Fence copied = device.newFence();
                Fence used = device.newFence()) {
            ConsumerStream consumer = device.consumerStream(0);
            first.copy(staging.segment(), slab, 0);
            first.record(copied);
            second.waitFor(copied);
            second.copy(staging.segment(), slab, 4096);
            second.record(copied);
            consumer.waitFor(copied);
            consumer.record(used);
            used.await();
            assertTrue(copied.passed() && used.passed());
        }
    }
}
