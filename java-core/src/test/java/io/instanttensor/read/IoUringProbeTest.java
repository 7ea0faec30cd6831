package io.instanttensor.read;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.instanttensor.posix.Errno;
import io.instanttensor.posix.ErrnoException;
import io.instanttensor.posix.Posix;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.Test;

class IoUringProbeTest {
    /// The same number on all processors.
    private static final int IO_URING_ENTER = 426;

    @Test
    void everyRefusalHasItsReason() {
        assertEquals("this kernel has no io_uring, or a container's seccomp profile hides it: "
                + "io_uring_setup: Function not implemented (errno 38)", refusal(Errno.ENOSYS, ""));
        assertEquals("the sysctl kernel.io_uring_disabled is 2: io_uring_setup: Operation not permitted (errno 1)",
                refusal(Errno.EPERM, "2"));
        assertEquals("the sysctl kernel.io_uring_disabled is 1: io_uring_setup: Operation not permitted (errno 1)",
                refusal(Errno.EPERM, "1"));
        assertEquals("it is forbidden here, as seccomp profiles of containers do: "
                + "io_uring_setup: Operation not permitted (errno 1)", refusal(Errno.EPERM, "0"));
        assertEquals("it is forbidden here, as seccomp profiles of containers do: "
                + "io_uring_setup: Permission denied (errno 13)", refusal(Errno.EACCES, ""));
        assertEquals("io_uring_setup: Cannot allocate memory (errno 12)", refusal(12, "0"));
    }

    @Test
    void answerIsThatOfTheKernelAndLeavesNoDescriptor() throws ErrnoException {
        String refusal = IoUringProbe.refusal();
        int before = Posix.memoryFile("before");
        Posix.close(before);
        for (int i = 0; i < 3; i++) {
            assertEquals(refusal, IoUringProbe.refusal());
        }
        int after = Posix.memoryFile("after");
        Posix.close(after);
        assertEquals(before, after);
        assertTrue(refusal.isEmpty() || refusal.contains("io_uring_setup: "), refusal);
    }

    /// Where a ring can be made and not used, nothing may be read by it.
    @Test
    void ringThatMayNotBeEnteredIsRefused() throws InterruptedException {
        assumeTrue(IoUringProbe.tried().isEmpty(), IoUringProbe::tried);
        AtomicReference<String> refusal = new AtomicReference<>();
        Thread denied = Thread.ofPlatform().start(() -> {
            Seccomp.deny(IO_URING_ENTER, Errno.EPERM);
            refusal.set(IoUringProbe.tried());
        });
        denied.join();
        assertEquals("it is forbidden here, as seccomp profiles of containers do: "
                + "io_uring_enter: Operation not permitted (errno 1)", refusal.get());
    }

    private static String refusal(int errno, String setting) {
        return IoUringProbe.refusal(new ErrnoException("io_uring_setup", errno), setting);
    }
}
