package io.instanttensor.slab;

import static io.instanttensor.slab.LoadRig.KIB;
import static io.instanttensor.slab.LoadRig.MIB;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.instanttensor.device.Device;
import io.instanttensor.device.OutOfDeviceMemoryException;
import io.instanttensor.device.StubCuda;
import io.instanttensor.device.cuda.CudaDevice;
import io.instanttensor.stage.StagingPool;
import java.io.IOException;
import java.io.RandomAccessFile;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/// Loads to the CUDA device over `tests/stub-cuda`. Every test ends with nothing live in the driver.
class CudaLoadOnStubTest extends LoadContract {
    @BeforeAll
    static void loadStub() {
        StubCuda.load();
    }

    @Override
    Device openDevice() {
        StubCuda.reset();
        return CudaDevice.open(0);
    }

    @Override
    void slowDownCopies(long microseconds) {
        StubCuda.delayUs(microseconds);
    }

    @AfterEach
    @Override
    void close() throws IOException {
        super.close();
        StubCuda.assertNothingIsLive("after the test");
        StubCuda.reset();
    }

    @Test
    void twoLoadsAtOncePinNoMoreThanTheLimit() throws Exception {
        try (RandomAccessFile file = new RandomAccessFile(path.toFile(), "rw")) {
            file.setLength(96 * MIB);
        }
        slowDownCopies(20_000);
        LoadRig.Setup setup = slabsOf(16 * MIB).withChunks(4 * MIB).withReaders(12);
        try (LoadRig first = setup.load(path, many(6, 16 * MIB));
                LoadRig second = setup.load(path, many(6, 16 * MIB))) {
            for (int i = 0; i < 6; i++) {
                first.take().close();
                assertTrue(staging.pinnedBytes() <= StagingPool.LIMIT_BYTES, "pinned " + staging.pinnedBytes());
                second.take().close();
            }
        }
        long pinned = staging.pinnedBytes();
        assertTrue(pinned <= StagingPool.LIMIT_BYTES, "pinned " + pinned);
        assertTrue(pinned > StagingPool.LIMIT_BYTES / 2, "not enough was going on: pinned only " + pinned);
    }

    @Test
    void pinnedMemoryIsKeptForTheNextLoad() throws Exception {
        content(20 * 64 * KIB);
        loadAll();
        long pinned = staging.pinnedBytes();
        long first = StubCuda.calls("cuMemHostRegister");
        StubCuda.reset();
        for (int i = 0; i < 5; i++) {
            loadAll();
        }
        assertTrue(pinned > 0);
        // Twenty batches each, most of them in buffers of the loads before: there are never more than one load's, and
        // those of the load before that are still copied from.
        long more = StubCuda.calls("cuMemHostRegister");
        assertTrue(first + more <= 40, "pinned " + first + ", and " + more + " more");
        assertEquals(0, StubCuda.calls("cuMemHostUnregister"));
    }

    @Test
    void deviceWithoutRoomSaysWhatWasNeeded() throws Exception {
        content(MIB);
        StubCuda.memoryBytes(100_000);
        try (LoadRig load = slabsOf(MIB).load(path, MIB)) {
            LoadFailedException failed = assertThrows(LoadFailedException.class, load::take);
            assertEquals("not enough memory on cuda:0: needed 1048576 bytes, 100000 of 100000 bytes were free",
                    failed.getMessage());
            assertEquals(OutOfDeviceMemoryException.class, failed.getCause().getClass());
        }
    }

    private void loadAll() throws Exception {
        try (LoadRig load = slabsOf(64 * KIB).load(path, many(20, 64 * KIB))) {
            for (Slab slab = load.take(); slab != null; slab = load.take()) {
                slab.close();
            }
        }
    }
}
