package io.instanttensor.bridge;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.instanttensor.device.StubCuda;
import io.instanttensor.file.FileException;
import io.instanttensor.read.FileProbe;
import io.instanttensor.read.IoUringProbe;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.CountDownLatch;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/// What the machine is asked, as texts, which is what Python gets.
@Timeout(30)
class ProbesTest {
    private static final long LONG_MILLIS = 20_000;

    @TempDir
    Path folder;

    @Test
    void gpusAreFourTextsBehindTheDriversFour() throws Exception {
        StubCuda.load();
        StubCuda.devices(2);
        assertArrayEquals(new String[] {
            "READY", "", "12.6.0", "12060", "Stub GPU 0", "4294967296", "4294967296", "", "Stub GPU 1", "4294967296",
            "-1", ""
        }, PythonBridge.gpus(0).await(LONG_MILLIS));
        StubCuda.reset();
    }

    @Test
    void ioUringIsItsRefusal() throws Exception {
        assertArrayEquals(new String[] {IoUringProbe.refusal()}, PythonBridge.ioUring().await(LONG_MILLIS));
    }

    @Test
    void storageIsWhatTheProbeFound() throws Exception {
        Path file = Files.write(folder.resolve("model"), new byte[8192]);
        FileProbe probe = FileProbe.of(file);
        assertArrayEquals(new String[] {
            probe.directRefusal(), "" + probe.directBytes(), "" + probe.stat().saysDirect(),
            "" + probe.stat().directOffsetAlignBytes(), "" + probe.stat().directMemoryAlignBytes(), "1.0",
            probe.cacheMethod()
        }, PythonBridge.storage(file.toString()).await(LONG_MILLIS));
    }

    @Test
    void errorIsThrownToWhoeverWaits() {
        Answer answer = PythonBridge.storage(folder.resolve("none").toString());
        assertEquals(folder.resolve("none") + ": open: No such file or directory (errno 2)",
                assertThrows(FileException.class, () -> answer.await(LONG_MILLIS)).getMessage());
    }

    @Test
    void awaitReturnsInTimeWhetherOrNotThereIsAnAnswer() throws Exception {
        CountDownLatch slow = new CountDownLatch(1);
        Answer answer = new Answer(() -> {
            slow.await();
            return new String[] {"there"};
        });
        assertNull(answer.await(0));
        slow.countDown();
        assertArrayEquals(new String[] {"there"}, answer.await(LONG_MILLIS));
    }
}
