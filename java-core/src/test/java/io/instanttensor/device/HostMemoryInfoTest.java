package io.instanttensor.device;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class HostMemoryInfoTest {
    @TempDir
    Path root;

    @BeforeEach
    void machineHasHundredAndSeventyKib() throws IOException {
        write("proc/meminfo", "MemTotal:     100 kB\nMemFree:  5 kB\nMemAvailable:  70 kB\nHugePages_Total: 0\n");
        write("proc/self/cgroup", "4:memory:/old\n0::/user/job\n");
    }

    @Test
    void kernelsAccountCountsWhereNoGroupIsLimited() throws IOException {
        write("cgroup/user/job/memory.max", "max\n");
        write("cgroup/user/job/memory.current", "4096\n");
        assertEquals(new MemoryInfo(70 * 1024, 100 * 1024), read());
    }

    @Test
    void tighterLimitOfTheOwnGroupCounts() throws IOException {
        limit("cgroup/user/job", 20_000, 5_000);
        assertEquals(new MemoryInfo(15_000, 20_000), read());
    }

    @Test
    void limitOfAGroupAboveCountsToo() throws IOException {
        limit("cgroup/user/job", 60_000, 1_000);
        limit("cgroup/user", 30_000, 29_000);
        assertEquals(new MemoryInfo(1_000, 30_000), read());
    }

    @Test
    void pageCacheOfTheGroupIsNotTaken() throws IOException {
        limit("cgroup/user/job", 20_000, 19_000);
        write("cgroup/user/job/memory.stat", "anon 7000\ninactive_file 8000\nactive_file 4000\n");
        assertEquals(new MemoryInfo(13_000, 20_000), read());
    }

    @Test
    void groupOverItsLimitHasNothingFree() throws IOException {
        limit("cgroup/user/job", 20_000, 20_001);
        assertEquals(new MemoryInfo(0, 20_000), read());
    }

    @Test
    void limitWiderThanTheMachineChangesNothing() throws IOException {
        limit("cgroup/user/job", 1L << 50, 1);
        assertEquals(new MemoryInfo(70 * 1024, 100 * 1024), read());
    }

    @Test
    void groupThatIsNotMountedHereIsTheMountsRoot() throws IOException {
        limit("cgroup", 10_000, 1_000);
        assertEquals(new MemoryInfo(9_000, 10_000), read());
        write("proc/self/cgroup", "0::/../../elsewhere\n");
        assertEquals(new MemoryInfo(9_000, 10_000), read());
        Files.delete(root.resolve("proc/self/cgroup"));
        assertEquals(new MemoryInfo(9_000, 10_000), read());
    }

    @Test
    void meminfoThatSaysNothingIsAnError() throws IOException {
        write("proc/meminfo", "MemTotal: 100 kB\n");
        Path meminfo = root.resolve("proc/meminfo");
        assertEquals("memory of cpu: " + meminfo + " names no MemAvailable and MemTotal",
                assertThrows(DeviceException.class, this::read).getMessage());
        Files.delete(meminfo);
        assertEquals("memory of cpu: cannot read " + meminfo + ": java.nio.file.NoSuchFileException: " + meminfo,
                assertThrows(DeviceException.class, this::read).getMessage());
    }

    private MemoryInfo read() {
        return new HostMemoryInfo(root.resolve("proc"), root.resolve("cgroup")).read();
    }

    private void limit(String group, long maxBytes, long currentBytes) throws IOException {
        write(group + "/memory.max", maxBytes + "\n");
        write(group + "/memory.current", currentBytes + "\n");
    }

    private void write(String name, String content) throws IOException {
        Path file = root.resolve(name);
        Files.createDirectories(file.getParent());
        Files.writeString(file, content);
    }
}
