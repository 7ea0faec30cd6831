package io.instanttensor.device;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.junit.jupiter.api.Test;

/// What every device promises about entering, closing, and use after that.
abstract class DeviceLifetimeContract extends DeviceFixture {
    @Test
    void scopesNestAndCloseTwice() {
        Device.Scope outer = device.enter();
        Device.Scope inner = device.enter();
        inner.close();
        inner.close();
        device.newFence().close();
        outer.close();
        outer.close();
        device.newFence().close();
    }

    @Test
    void closingTwiceFreesOnce() {
        for (AutoCloseable resource : List.of(
                device.allocate(KIB), device.allocateStaging(KIB), device.openStream(), device.newFence())) {
            closeFromTwoThreads(resource);
        }
        scope.close();
        device.close();
        device.close();
    }

    private static void closeFromTwoThreads(AutoCloseable resource) {
        try (ExecutorService pool = Executors.newFixedThreadPool(2)) {
            for (int i = 0; i < 4; i++) {
                Future<?> closed = pool.submit(() -> {
                    resource.close();
                    return null;
                });
                if (i % 2 == 1) {
                    closed.get();
                }
            }
        } catch (Exception e) {
            throw new AssertionError("closing " + resource, e);
        }
    }

    @Test
    void useAfterCloseNamesWhatIsClosed() {
        DeviceMemory slab = device.allocate(KIB);
        StagingMemory staging = device.allocateStaging(KIB);
        CopyStream stream = device.openStream();
        Fence fence = device.newFence();
        try (StagingMemory open = device.allocateStaging(KIB);
                DeviceMemory openSlab = device.allocate(KIB);
                CopyStream openStream = device.openStream();
                Fence openFence = device.newFence()) {
            MemorySegment segment = staging.segment();
            slab.close();
            staging.close();
            stream.close();
            fence.close();
            String slabClosed = "slab of 1024 bytes on " + device.id() + " is closed";
            closed(slabClosed, slab::address);
            closed(slabClosed, slab::hostView);
            closed(slabClosed, () -> openStream.copy(open.segment(), slab, 0));
            String streamClosed = "copy stream of " + device.id() + " is closed";
            closed(streamClosed, () -> stream.copy(open.segment(), openSlab, 0));
            closed(streamClosed, () -> stream.record(openFence));
            closed(streamClosed, () -> stream.waitFor(openFence));
            String fenceClosed = "fence of " + device.id() + " is closed";
            closed(fenceClosed, fence::passed);
            closed(fenceClosed, fence::await);
            closed(fenceClosed, () -> openStream.record(fence));
            closed(fenceClosed, () -> openStream.waitFor(fence));
            closed(fenceClosed, () -> device.consumerStream(0).record(fence));
            closed(fenceClosed, () -> device.consumerStream(0).waitFor(fence));
            assertEquals(stagingName() + " is closed",
                    assertThrows(IllegalStateException.class, staging::segment).getMessage());
            assertThrows(IllegalStateException.class, () -> segment.fill((byte) 1));
            assertThrows(RuntimeException.class, () -> openStream.copy(segment, openSlab, 0));
        }
    }

    @Test
    void closedDeviceMakesNothing() {
        scope.close();
        device.close();
        String closed = "device " + device.id() + " is closed";
        closed(closed, device::enter);
        closed(closed, device::memory);
        closed(closed, () -> device.allocate(1));
        closed(closed, () -> device.allocateStaging(1));
        closed(closed, device::openStream);
        closed(closed, device::newFence);
        closed(closed, () -> device.consumerStream(0));
    }

    @Test
    void whatWasMadeMayBeClosedAfterTheDeviceAndOutsideItsScope() {
        DeviceMemory slab = device.allocate(KIB);
        StagingMemory staging = device.allocateStaging(KIB);
        CopyStream stream = device.openStream();
        Fence fence = device.newFence();
        scope.close();
        device.close();
        slab.close();
        staging.close();
        stream.close();
        fence.close();
    }

    @Test
    void strangersAreRefused() {
        try (StagingMemory staging = device.allocateStaging(KIB);
                CopyStream stream = device.openStream()) {
            refused(IllegalArgumentException.class, "the target of the copy is not memory of " + device.id()
                    + ": a stranger", () -> stream.copy(staging.segment(), new Strangers.Memory(), 0));
            refused(IllegalArgumentException.class, "the fence is not one of " + device.id() + ": a stranger",
                    () -> stream.record(new Strangers.Mark()));
            refused(IllegalArgumentException.class, "the fence is not one of " + device.id() + ": a stranger",
                    () -> device.consumerStream(0).waitFor(new Strangers.Mark()));
        }
    }
}
