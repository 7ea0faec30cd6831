package io.instanttensor.device;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.instanttensor.device.cuda.CudaDevice;
import java.lang.foreign.MemorySegment;
import java.io.IOException;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/// The CUDA device over `tests/stub-cuda`. Every test ends with nothing live in the driver.
class CudaDeviceOnStubTest extends DeviceContract {
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
    void slowDownCopies() {
        StubCuda.delayUs(20_000);
    }

    @Override
    String stagingName() {
        return "staging buffer of 1024 bytes of pinned memory for cuda:0";
    }

    @AfterEach
    @Override
    void close() {
        super.close();
        StubCuda.assertNothingIsLive("after the test");
        StubCuda.reset();
    }

    @Test
    void stagingRewrittenBeforeItsFenceShowsAsWrongBytes() {
        slowDownCopies();
        try (DeviceMemory slab = device.allocate(KIB);
                StagingMemory staging = filled(1);
                CopyStream stream = device.openStream();
                Fence fence = device.newFence()) {
            stream.copy(staging.segment(), slab, 0);
            stream.record(fence);
            assertFalse(fence.passed());
            staging.segment().fill((byte) 2);
            fence.await();
            assertEquals(2, bytes(slab, 0, 1)[0], "the stub must not hide a missing wait");
        }
    }

    @Test
    void copyWithoutAWaitMissesTheOtherStreams() {
        slowDownCopies();
        try (DeviceMemory slab = device.allocate(KIB);
                StagingMemory staging = filled(1);
                CopyStream stream = device.openStream();
                Fence copied = device.newFence();
                Fence consumed = device.newFence()) {
            stream.copy(staging.segment(), slab, 0);
            stream.record(copied);
            device.consumerStream(0).record(consumed);
            consumed.await();
            assertFalse(copied.passed());
            assertEquals((byte) 0xCD, bytes(slab, 0, 1)[0]);
            copied.await();
        }
    }

    @Test
    void slabsAreTakenFromTheDevicesMemoryAndComeBack() {
        long before = device.memory().freeBytes();
        try (DeviceMemory slab = device.allocate(1 << 20)) {
            assertEquals(before - slab.bytes(), device.memory().freeBytes());
        }
        assertEquals(before, device.memory().freeBytes());
    }

    @Test
    void fullDeviceSaysWhatWasNeededAndWhatWasFree() {
        StubCuda.memoryBytes(4096);
        try (DeviceMemory _ = device.allocate(3000)) {
            refused(OutOfDeviceMemoryException.class,
                    "not enough memory on cuda:0: needed 1097 bytes, 1096 of 4096 bytes were free",
                    () -> device.allocate(1097));
            device.allocate(1096).close();
        }
    }

    @Test
    void memoryThatCannotBePinnedIsSaidToBePinned() {
        StubCuda.fail("cuMemHostRegister", 1, 2);
        StubCuda.fail("cuMemHostAlloc", 1, 2);
        refused(DeviceException.class, "cuMemHostAlloc of a staging buffer of 4096 bytes of pinned memory for cuda:0: "
                + "CUDA_ERROR_OUT_OF_MEMORY (2)", () -> device.allocateStaging(4096));
        refused(IllegalArgumentException.class, "staging buffer of 2147483648 bytes of pinned memory for cuda:0: "
                + "expected at most 2147483647, which is what JCuda takes", () -> device.allocateStaging(1L << 31));
    }

    @Test
    void stagingMemoryIsUnmappedWithItsEndUnlessTheDriverKeepsIt() throws IOException {
        StagingMemory staging = device.allocateStaging(4096);
        long address = staging.segment().address();
        assertTrue(Mappings.flags(address).contains("dc"));
        staging.close();
        staging.close();
        assertEquals(List.of(), Mappings.flags(address));

        StagingMemory kept = device.allocateStaging(4096);
        long keptAddress = kept.segment().address();
        StubCuda.fail("cuMemHostUnregister", 1, 999);
        assertThrows(DeviceException.class, kept::close);
        kept.close();
        assertTrue(Mappings.flags(keptAddress).contains("dc"), "unmapped while the driver may read there");
    }

    @Test
    void memoryThatCannotBeRegisteredIsUnmapped() throws IOException {
        long before = Mappings.notForChildren();
        StubCuda.fail("cuMemHostRegister", 1, 801);
        device.allocateStaging(4096).close();
        assertEquals(before, Mappings.notForChildren());
    }

    @Test
    void sourceOnTheJavaHeapIsRefused() {
        try (DeviceMemory slab = device.allocate(KIB);
                CopyStream stream = device.openStream()) {
            refused(IllegalArgumentException.class, "the source of a copy of 8 bytes to cuda:0 is on the Java heap: "
                    + "expected native memory that is open",
                    () -> stream.copy(MemorySegment.ofArray(new byte[8]), slab, 0));
        }
    }

    @Test
    void missingDeviceIsNamedWithTheNumberThereAre() {
        StubCuda.devices(2);
        refused(DeviceException.class, "no such device cuda:9: this machine has 2", () -> CudaDevice.open(9));
        refused(IllegalArgumentException.class, "device ordinal -1: expected 0 or more", () -> CudaDevice.open(-1));
    }

    @Test
    void memoryOfAnotherGpuIsRefused() {
        StubCuda.devices(2);
        try (Device other = CudaDevice.open(1);
                Device.Scope _ = other.enter();
                DeviceMemory theirs = other.allocate(KIB);
                Fence theirFence = other.newFence();
                Device.Scope _ = device.enter();
                StagingMemory staging = filled(1);
                CopyStream stream = device.openStream()) {
            refused(IllegalArgumentException.class,
                    "the target of the copy is not memory of cuda:0: slab of 1024 bytes on cuda:1",
                    () -> stream.copy(staging.segment(), theirs, 0));
            refused(IllegalArgumentException.class, "the fence is not one of cuda:0: fence of cuda:1",
                    () -> stream.record(theirFence));
        }
    }

    @Test
    void scopesRestoreWhatWasCurrent() {
        StubCuda.devices(2);
        long ours = StubCuda.currentContext();
        long torchs = StubCuda.retainPrimaryContext(1);
        assertNotEquals(ours, torchs);
        StubCuda.setCurrentContext(torchs);
        try (Device.Scope _ = device.enter()) {
            assertEquals(ours, StubCuda.currentContext());
            try (Device.Scope _ = device.enter()) {
                device.allocate(1).close();
            }
            assertEquals(ours, StubCuda.currentContext());
        }
        assertEquals(torchs, StubCuda.currentContext());
        StubCuda.setCurrentContext(ours);
        StubCuda.releasePrimaryContext(1);
    }

    @Test
    void closingLeavesTheThreadsContextAlone() throws Exception {
        DeviceMemory slab = device.allocate(KIB);
        Thread other = Thread.ofPlatform().start(slab::close);
        other.join();
        assertEquals(1, StubCuda.calls("cuMemFree"));
        long ours = StubCuda.currentContext();
        device.newFence().close();
        assertEquals(ours, StubCuda.currentContext());
    }

    @Test
    void scopeIsClosedOnlyWhereItWasEntered() throws Exception {
        Device.Scope here = device.enter();
        String[] message = new String[1];
        Thread other = Thread.ofPlatform().name("elsewhere").start(() ->
                message[0] = assertThrows(IllegalStateException.class, here::close).getMessage());
        other.join();
        assertEquals("the scope of cuda:0 was entered on thread " + Thread.currentThread().getName()
                + ", and is closed on elsewhere", message[0]);
        here.close();
    }

    @Test
    void callsOutsideAScopeAreRefusedByTheDriver() throws Exception {
        String[] message = new String[1];
        Thread other = Thread.ofPlatform().start(() ->
                message[0] = assertThrows(DeviceException.class, () -> device.allocate(8)).getMessage());
        other.join();
        assertEquals("cuMemAlloc of a slab of 8 bytes on cuda:0: CUDA_ERROR_INVALID_CONTEXT (201)", message[0]);
    }

    @Test
    void consumerStreamIsTheOneOfTheHandleAndIsNotClosed() {
        long handle = StubCuda.newStream();
        slowDownCopies();
        try (DeviceMemory slab = device.allocate(KIB);
                StagingMemory staging = filled(4);
                CopyStream stream = device.openStream();
                Fence copied = device.newFence();
                Fence consumed = device.newFence()) {
            ConsumerStream consumer = device.consumerStream(handle);
            stream.copy(staging.segment(), slab, 0);
            stream.record(copied);
            consumer.waitFor(copied);
            consumer.record(consumed);
            assertFalse(consumed.passed());
            assertEquals(0, StubCuda.driver("cuStreamSynchronize", handle));
            assertTrue(consumed.passed());
            assertEquals(4, bytes(slab, 0, 1)[0]);
            StubCuda.destroyStream(handle);
            refused(DeviceException.class, "cuEventRecord in a consumer stream 0x" + Long.toHexString(handle)
                    + " of cuda:0: CUDA_ERROR_INVALID_HANDLE (400)", () -> consumer.record(consumed));
        }
    }

    @Test
    void primaryContextOutlivesUsWhereTorchHoldsIt() {
        long torchs = StubCuda.retainPrimaryContext(0);
        device.close();
        super.close();
        StubCuda.setCurrentContext(torchs);
        assertEquals(torchs, StubCuda.currentContext());
        StubCuda.setCurrentContext(0);
        StubCuda.releasePrimaryContext(0);
    }
}
