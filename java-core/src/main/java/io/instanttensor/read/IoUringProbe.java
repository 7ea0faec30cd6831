package io.instanttensor.read;

import io.instanttensor.posix.Errno;
import io.instanttensor.posix.ErrnoException;
import io.instanttensor.posix.Ring;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/// Whether this process can use io_uring.
public final class IoUringProbe {
    private static final Path SWITCH = Path.of("/proc/sys/kernel/io_uring_disabled");

    /// A ring has done something; what may be asked for every file of a checkpoint is asked of the kernel once.
    private static volatile boolean usable;

    private IoUringProbe() {}

    /// Why it cannot be used, in words for the user; empty where it can.
    public static String refusal() {
        if (usable) {
            return "";
        }
        String refusal = tried();
        usable = refusal.isEmpty();
        return refusal;
    }

    /// Makes a ring and has it do nothing: seccomp may allow the one and not the other.
    static String tried() {
        try (Ring ring = Ring.open(RingReads.MAX_PIECES)) {
            int number = ring.queueNothing();
            ring.complete();
            int result = ring.results()[number];
            return result < 0 ? refusal(Ring.error(result), setting()) : "";
        } catch (ErrnoException e) {
            return refusal(e, setting());
        }
    }

    /// @param setting of the sysctl kernel.io_uring_disabled; empty where the kernel has none (Linux 6.6)
    static String refusal(ErrnoException e, String setting) {
        return switch (e.errno()) {
            case Errno.ENOSYS ->
                    "this kernel has no io_uring, or a container's seccomp profile hides it: " + e.getMessage();
            case Errno.EPERM, Errno.EACCES -> switch (setting) {
                case "1", "2" -> "the sysctl kernel.io_uring_disabled is " + setting + ": " + e.getMessage();
                default -> "it is forbidden here, as seccomp profiles of containers do: " + e.getMessage();
            };
            default -> e.getMessage();
        };
    }

    private static String setting() {
        try {
            return Files.readString(SWITCH).strip();
        } catch (IOException e) {
            return "";
        }
    }
}
