package io.instanttensor.bridge;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.instanttensor.Checkpoint;
import io.instanttensor.SafetensorsFiles;
import io.instanttensor.header.DType;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

@Timeout(30)
class OpeningTest {
    private static final long LONG_MILLIS = 20_000;

    @TempDir
    Path folder;

    @Test
    void awaitReturnsInTimeWhetherOrNotTheCheckpointIsOpen() throws Exception {
        CountDownLatch slow = new CountDownLatch(1);
        PythonCheckpoint checkpoint = checkpoint();
        Opening opening = new Opening(() -> {
            slow.await();
            return checkpoint;
        });
        assertNull(opening.await(20));
        slow.countDown();
        assertSame(checkpoint, opening.await(LONG_MILLIS));
        assertSame(checkpoint, opening.await(0));
        checkpoint.close();
    }

    @Test
    void whatOpeningThrewIsThrownAsItIs() {
        IOException io = new IOException("no");
        assertSame(io, assertThrows(IOException.class,
                () -> new Opening(() -> { throw io; }).await(LONG_MILLIS)));
        assertEquals("heap", assertThrows(OutOfMemoryError.class,
                () -> new Opening(() -> { throw new OutOfMemoryError("heap"); }).await(LONG_MILLIS)).getMessage());
    }

    @Test
    void abandonedBeforeItIsOpenIsClosedOnceItIs() throws Exception {
        CountDownLatch slow = new CountDownLatch(1);
        PythonCheckpoint checkpoint = checkpoint();
        Opening opening = new Opening(() -> {
            slow.await();
            return checkpoint;
        });
        opening.abandon();
        slow.countDown();
        requireClosed(checkpoint);
    }

    @Test
    void abandonedAfterItIsOpenIsClosedAtOnce() throws Exception {
        PythonCheckpoint checkpoint = checkpoint();
        Opening opening = new Opening(() -> checkpoint);
        assertSame(checkpoint, opening.await(LONG_MILLIS));
        opening.abandon();
        assertClosed(checkpoint);
    }

    @Test
    void closingTwiceAtOnceHurtsNobody() throws Exception {
        for (int turn = 0; turn < 100; turn++) {
            PythonCheckpoint checkpoint = checkpoint();
            List<Future<?>> closing = new ArrayList<>();
            try (ExecutorService threads = Executors.newFixedThreadPool(4)) {
                for (int i = 0; i < 4; i++) {
                    closing.add(threads.submit(checkpoint::close));
                }
            }
            for (Future<?> one : closing) {
                one.get();
            }
            assertClosed(checkpoint);
        }
    }

    @Test
    void abandonedFailureHurtsNobody() throws Exception {
        Opening opening = new Opening(() -> { throw new IOException("no"); });
        assertThrows(IOException.class, () -> opening.await(LONG_MILLIS));
        opening.abandon();
    }

    private PythonCheckpoint checkpoint() throws IOException {
        Path file = SafetensorsFiles.builder()
                .tensor("x", DType.U8, new long[] {4}, 1)
                .write(folder, "model.safetensors");
        return new PythonCheckpoint(Checkpoint.open(List.of(file)));
    }

    /// Waits until it is; the test's own timeout ends a wait in vain.
    private static void requireClosed(PythonCheckpoint checkpoint) throws Exception {
        while (true) {
            try {
                checkpoint.access();
                Thread.sleep(5);
            } catch (IllegalStateException closed) {
                return;
            }
        }
    }

    private static void assertClosed(PythonCheckpoint checkpoint) {
        assertEquals("the checkpoint is closed",
                assertThrows(IllegalStateException.class, checkpoint::access).getMessage());
    }
}
