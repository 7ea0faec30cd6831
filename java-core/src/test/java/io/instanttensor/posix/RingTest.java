package io.instanttensor.posix;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.instanttensor.read.IoUringProbe;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(60)
class RingTest {
    private static final int BYTES = 40_000;

    private final Arena arena = Arena.ofShared();
    private final byte[] content = new byte[BYTES];
    private int fd = -1;

    @BeforeEach
    void createFile() throws Exception {
        assumeTrue(IoUringProbe.refusal().isEmpty(), IoUringProbe::refusal);
        new Random(1).nextBytes(content);
        fd = Posix.memoryFile("ring");
        Files.write(Path.of("/proc/self/fd/" + fd), content);
    }

    @AfterEach
    void close() {
        arena.close();
        if (fd >= 0) {
            Posix.close(fd);
        }
    }

    @Test
    void eachReadHasAResultOfItsOwn() throws Exception {
        int directory = Posix.open(Path.of("/"));
        try (Ring ring = Ring.open(4)) {
            MemorySegment first = arena.allocate(100);
            MemorySegment last = arena.allocate(100);
            assertEquals(0, ring.queue(fd, first, 7));
            assertEquals(1, ring.queue(fd, last, BYTES - 30));
            assertEquals(2, ring.queue(fd, arena.allocate(100), BYTES));
            assertEquals(3, ring.queue(directory, arena.allocate(100), 0));
            ring.complete();
            assertEquals(List.of(100, 30, 0, -Errno.EISDIR),
                    List.of(ring.results()[0], ring.results()[1], ring.results()[2], ring.results()[3]));
            assertArrayEquals(Arrays.copyOfRange(content, 7, 107), first.toArray(ValueLayout.JAVA_BYTE));
            assertArrayEquals(Arrays.copyOfRange(content, BYTES - 30, BYTES),
                    last.asSlice(0, 30).toArray(ValueLayout.JAVA_BYTE));
            assertEquals("io_uring read: Is a directory (errno 21)", Ring.error(ring.results()[3]).getMessage());
        } finally {
            Posix.close(directory);
        }
    }

    /// Its indexes are numbers that grow, and wrap around the queues.
    @Test
    void ringIsUsedAgainAndAgain() throws Exception {
        try (Ring ring = Ring.open(8)) {
            MemorySegment target = arena.allocate(8 * 100);
            for (int round = 0; round < 1_000; round++) {
                int reads = 1 + round % 8;
                for (int i = 0; i < reads; i++) {
                    ring.queue(fd, target.asSlice(i * 100, 100), (round * 7 + i * 100) % (BYTES - 100));
                }
                ring.complete();
                for (int i = 0; i < reads; i++) {
                    int at = (round * 7 + i * 100) % (BYTES - 100);
                    assertEquals(100, ring.results()[i]);
                    assertArrayEquals(Arrays.copyOfRange(content, at, at + 100),
                            target.asSlice(i * 100, 100).toArray(ValueLayout.JAVA_BYTE));
                }
            }
        }
    }

    @Test
    void moreThanItHoldsIsRefused() throws Exception {
        try (Ring ring = Ring.open(2)) {
            assertEquals(2, ring.reads());
            ring.queue(fd, arena.allocate(1), 0);
            ring.queue(fd, arena.allocate(1), 0);
            assertEquals("2 reads are queued, which is all the ring holds",
                    assertThrows(IllegalStateException.class, () -> ring.queue(fd, arena.allocate(1), 0))
                            .getMessage());
            ring.complete();
            assertEquals(1, ring.results()[1]);
        }
    }

    @Test
    void nothingQueuedIsNothingToWaitFor() throws Exception {
        try (Ring ring = Ring.open(2)) {
            ring.complete();
            assertEquals(-Errno.EAGAIN, ring.results()[0]);
        }
    }

    /// A reader that blocks is woken by what it waits for, and by nothing else.
    @Test
    void readThatTakesLongIsWaitedFor() throws Exception {
        Path fifo = Files.createTempDirectory("ring").resolve("fifo");
        assertEquals(0, new ProcessBuilder("mkfifo", fifo.toString()).start().waitFor());
        Process writer = new ProcessBuilder("sh", "-c", "exec 3<>" + fifo + "; sleep 0.3; printf late >&3; sleep 0.2")
                .start();
        int pipe = -1;
        try (Ring ring = Ring.open(2)) {
            pipe = Posix.open(fifo);
            Posix.setWaiting(pipe);
            MemorySegment target = arena.allocate(4);
            while (ring.results()[0] <= 0) {
                // End of file, until the writer has opened it.
                ring.queue(pipe, target, 0);
                ring.complete();
            }
            assertEquals("late", new String(target.toArray(ValueLayout.JAVA_BYTE), StandardCharsets.UTF_8));
        } finally {
            Posix.close(pipe);
            writer.destroy();
            Files.delete(fifo);
            Files.delete(fifo.getParent());
        }
    }

    @Test
    void descriptorThatIsNoRingFailsAndLeavesNothingQueued() throws Exception {
        try (Ring ring = Ring.open(2)) {
            int number = descriptorOfRing();
            Posix.close(number);
            // Whoever opens next gets its number.
            int other = Posix.memoryFile("other");
            assertEquals(number, other);
            for (int i = 0; i < 5; i++) {
                ring.queue(fd, arena.allocate(1), 0);
                assertEquals("io_uring_enter: Operation not supported (errno 95)",
                        assertThrows(ErrnoException.class, ring::complete).getMessage());
            }
        }
    }

    @Test
    void itsMemoryIsKeptFromForkedChildren() throws Exception {
        try (Ring ring = Ring.open(8)) {
            assertEquals(8, ring.reads());
            List<String> lines = Files.readAllLines(Path.of("/proc/self/smaps"), StandardCharsets.ISO_8859_1);
            int found = 0;
            for (int i = 0; i < lines.size(); i++) {
                if (lines.get(i).endsWith("anon_inode:[io_uring]")) {
                    found++;
                    while (!lines.get(i).startsWith("VmFlags:")) {
                        i++;
                    }
                    assertTrue(lines.get(i).contains(" dc"), lines.get(i));
                }
            }
            assertEquals(2, found);
        }
    }

    @Test
    void closingTwiceClosesOnce() throws Exception {
        Ring ring = Ring.open(2);
        ring.close();
        int next = Posix.memoryFile("next");
        ring.close();
        assertEquals(0, Posix.size(next));
        Posix.close(next);
    }

    @Test
    void ringOfNoReadsIsNone() {
        assertEquals("io_uring_setup: Invalid argument (errno 22)",
                assertThrows(ErrnoException.class, () -> Ring.open(0)).getMessage());
    }

    private static int descriptorOfRing() throws Exception {
        try (var all = Files.list(Path.of("/proc/self/fd"))) {
            return all.filter(RingTest::isRing).mapToInt(fd -> Integer.parseInt(fd.getFileName().toString()))
                    .max().orElseThrow();
        }
    }

    private static boolean isRing(Path fd) {
        try {
            return Files.readSymbolicLink(fd).toString().equals("anon_inode:[io_uring]");
        } catch (java.io.IOException e) {
            return false;
        }
    }
}
