package io.instanttensor.device;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class HostDeviceTest extends DeviceContract {
    @Override
    Device openDevice() {
        return new HostDevice();
    }

    @Override
    void slowDownCopies() {
        // They are done when they return.
    }

    @Override
    String stagingName() {
        return "staging buffer of 1024 bytes on cpu";
    }

    @Test
    void onlyTheDefaultStreamExists() {
        refused(IllegalArgumentException.class, "consumer stream 0x777 on cpu: the host has only stream 0",
                () -> device.consumerStream(0x777));
    }

    @Test
    void viewOfAClosedSlabThrowsAndDoesNotCrash() {
        DeviceMemory slab = device.allocate(KIB);
        MemorySegment view = slab.hostView().orElseThrow();
        slab.close();
        assertThrows(IllegalStateException.class, () -> view.fill((byte) 1));
    }

    @Test
    void slabIsRefusedByWhatIsFreeAndNotByWhatTheKernelWouldMap(@TempDir Path proc) throws Exception {
        Files.writeString(proc.resolve("meminfo"), "MemTotal: 8 kB\nMemAvailable: 2 kB\n");
        Device small = new HostDevice(new HostMemoryInfo(proc, proc.resolve("cgroup")));
        small.allocate(2048).close();
        refused(OutOfDeviceMemoryException.class,
                "not enough memory on cpu: needed 2049 bytes, 2048 of 8192 bytes were free",
                () -> small.allocate(2049));
        refused(OutOfDeviceMemoryException.class,
                "not enough memory on cpu: needed 4096 bytes, 2048 of 8192 bytes were free",
                () -> small.allocateStaging(4096));
    }

    @Test
    void refusalByTheKernelIsReportedTheSameWay(@TempDir Path proc) throws Exception {
        long claimedKib = 1L << 50;
        Files.writeString(proc.resolve("meminfo"),
                "MemTotal: " + claimedKib + " kB\nMemAvailable: " + claimedKib + " kB\n");
        Device boastful = new HostDevice(new HostMemoryInfo(proc, proc.resolve("cgroup")));
        long claimedBytes = claimedKib * 1024;
        assertEquals("not enough memory on cpu: needed " + claimedBytes + " bytes, " + claimedBytes + " of "
                + claimedBytes + " bytes were free",
                assertThrows(OutOfDeviceMemoryException.class, () -> boastful.allocate(claimedBytes)).getMessage());
    }

    @Test
    void whatWasFreeBeforeDoesWhereItCannotBeRead(@TempDir Path proc) throws Exception {
        Path meminfo = proc.resolve("meminfo");
        Files.writeString(meminfo, "MemTotal: 8 kB\nMemAvailable: 2 kB\n");
        Device known = new HostDevice(new HostMemoryInfo(proc, proc.resolve("cgroup")));
        assertEquals(new MemoryInfo(2048, 8192), known.memory());
        Files.delete(meminfo);
        assertEquals(new MemoryInfo(2048, 8192), known.memory());
        known.allocate(2048).close();
    }
}
