package io.instanttensor.slab;

import static io.instanttensor.slab.LoadRig.KIB;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.instanttensor.device.Device;
import io.instanttensor.device.DeviceException;
import io.instanttensor.device.StubCuda;
import io.instanttensor.device.cuda.CudaDevice;
import io.instanttensor.read.TestFolders;
import io.instanttensor.stage.StagingPool;
import java.io.IOException;
import java.nio.file.Path;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// Each of the driver's calls made to fail, each time it is made in a whole load.
@Timeout(60)
class CudaLoadFaultsOnStubTest {
    private static final int UNKNOWN = 999;
    private static final String NOTHING = "slabs 0, pinned 0, streams 0, events 0, contexts 1, bytes 0";

    private Path folder;
    private Path path;
    private byte[] content;
    private Device device;
    private Reclaimer reclaimer;

    @BeforeAll
    static void loadStub() {
        StubCuda.load();
    }

    @BeforeEach
    void open() throws IOException {
        folder = TestFolders.inMemory();
        path = folder.resolve("model");
        content = TestFolders.fill(path, Math.toIntExact(6 * 32 * KIB));
        device = CudaDevice.open(0);
        reclaimer = new Reclaimer(device);
        reclaimer.start();
    }

    @AfterEach
    void close() throws IOException {
        StubCuda.reset();
        device.close();
        TestFolders.delete(folder);
        StubCuda.assertNothingIsLive("after the test");
    }

    @ParameterizedTest
    @ValueSource(strings = {
        "cuCtxPushCurrent", "cuCtxPopCurrent", "cuMemAlloc", "cuMemFree", "cuMemHostUnregister", "cuStreamCreate",
        "cuStreamDestroy", "cuStreamWaitEvent", "cuMemcpyHtoDAsync", "cuEventCreate",
        "cuEventDestroy", "cuEventRecord", "cuEventQuery", "cuEventSynchronize"})
    void failureIsKnownToTheCallerAndLeavesNothingInTheDriver(String call) throws Exception {
        StubCuda.reset();
        assertTrue(load(call));
        assertEquals(NOTHING, StubCuda.live());
        long calls = StubCuda.calls(call);
        assertTrue(calls > 0, call + " is not part of the load");
        int known = 0;
        for (long nth = 1; nth <= calls; nth++) {
            StubCuda.reset();
            StubCuda.fail(call, nth, UNKNOWN);
            known += load(call) ? 0 : 1;
            StubCuda.reset();
            assertEquals(NOTHING, StubCuda.live(), "after call " + nth + " of " + call + " failed");
        }
        // What fails behind the last slab, or on the reclaimer's thread, is logged: there is nobody to throw it at.
        boolean givesBack = call.contains("Free") || call.contains("Destroy") || call.contains("Unregister");
        assertTrue(known > 0 || givesBack, "no failure of " + call + " came to be known");
    }

    /// One reader, so that calls come in much the same order every time.
    ///
    /// @return whether it went well, as far as the caller knows; then the bytes are right
    private boolean load(String call) throws Exception {
        StubCuda.delayUs(50);
        StagingPool staging = new StagingPool(device);
        boolean well = true;
        LoadRig.Setup setup = LoadRig.Setup.of(device, staging, reclaimer, 32 * KIB)
                .withReaders(1).withCap(64 * KIB);
        try (LoadRig load = setup.load(path, LoadContract.many(6, 32 * KIB))) {
            for (Slab slab = load.take(); slab != null; slab = load.take()) {
                try (Slab _ = slab) {
                    load.requireRight(slab, content);
                }
            }
        } catch (LoadFailedException | DeviceException e) {
            requireNamed(call, e);
            well = false;
        }
        // In a scope, or a scope that fails would be what frees nothing.
        try (Device.Scope _ = enter()) {
            staging.close();
        } catch (DeviceException e) {
            requireNamed(call, e);
            well = false;
        }
        return well;
    }

    private Device.Scope enter() {
        try {
            return device.enter();
        } catch (DeviceException once) {
            return device.enter();
        }
    }

    private static void requireNamed(String call, RuntimeException e) {
        assertTrue(e.getMessage().startsWith(call + " ") && e.getMessage().endsWith(": CUDA_ERROR_UNKNOWN (999)"),
                e.getMessage());
    }
}
