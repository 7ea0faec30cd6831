package io.instanttensor.slab;

import static io.instanttensor.slab.LoadRig.KIB;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.instanttensor.device.Device;
import io.instanttensor.device.StubCuda;
import io.instanttensor.device.StubCufile;
import io.instanttensor.device.cuda.CudaDevice;
import io.instanttensor.read.Backend;
import io.instanttensor.read.TestFolders;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/// Loads to the CUDA device by libcufile, past all buffers. Every test ends with nothing live in the driver or in
/// libcufile.
class CudaLoadByCufileOnStubTest extends LoadContract {
    @BeforeAll
    static void loadStubs() {
        StubCuda.load();
        StubCufile.load();
    }

    @Override
    Device openDevice() {
        StubCuda.reset();
        StubCufile.reset();
        return CudaDevice.open(0);
    }

    @Override
    void slowDownCopies(long microseconds) {
        StubCuda.delayUs(microseconds);
    }

    @Override
    Backend buffered() {
        return Backend.CUFILE;
    }

    @Override
    Backend direct() {
        return Backend.CUFILE;
    }

    /// libcufile wants direct I/O.
    @BeforeEach
    @Override
    void open() throws IOException {
        super.open();
        TestFolders.delete(folder);
        folder = TestFolders.direct();
        path = folder.resolve("model");
    }

    @AfterEach
    @Override
    void close() throws IOException {
        super.close();
        StubCuda.assertNothingIsLive("after the test");
        assertEquals(0, StubCufile.live());
        StubCuda.reset();
        StubCufile.reset();
    }

    @Test
    @Override
    void directReadsGoThroughStagingOnEveryDevice() throws Exception {
        byte[] content = content(20 * 50 * KIB + 77);
        long[] tensors = many(21, 50 * KIB);
        tensors[20] = 77;
        try (LoadRig load = slabsOf(128 * KIB).load(path, tensors)) {
            for (Slab slab = load.take(); slab != null; slab = load.take()) {
                load.requireRight(slab, content);
                slab.close();
            }
        }
        assertEquals(0, staging.pinnedBytes());
        assertEquals(0, StubCuda.calls("cuMemcpyHtoDAsync"));
        assertTrue(StubCufile.reads() > 0);
    }

    /// What the caller has queued on the slab before may write to it for as long as it takes.
    @Test
    void memoryIsWrittenAgainOnlyBehindItsLastUsers() throws Exception {
        byte[] content = content(6 * 64 * KIB);
        LoadRig.Setup setup = slabsOf(64 * KIB).withCap(64 * KIB);
        try (LoadRig load = setup.load(path, many(6, 64 * KIB));
                Arena arena = Arena.ofConfined()) {
            MemorySegment other = arena.allocate(64 * KIB);
            StubCuda.delayUs(20_000);
            int taken = 0;
            for (Slab slab = load.take(); slab != null; slab = load.take()) {
                load.requireRight(slab, content);
                try (Device.Scope _ = device.enter()) {
                    assertEquals(0, StubCuda.driver("cuMemcpyHtoDAsync_v2", slab.address(), other, 64 * KIB, 0L));
                }
                slab.close();
                taken++;
            }
            assertEquals(6, taken);
            assertEquals(64 * KIB, load.pool.peakOwnBytes());
        }
    }
}
