package io.instanttensor.posix;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.StructLayout;
import java.lang.invoke.MethodHandle;

/// The one call into the C library: `syscall`, which makes any system call of Linux.
///
/// One function rather than ten, because the JVM builds code for every shape of foreign call at its
/// first use: ten shapes cost 300 ms on two processors, one costs 60.
final class Syscalls {
    // asm/unistd_64.h
    static final long CLOSE = 3;
    static final long MMAP = 9;
    static final long MUNMAP = 11;
    static final long PREAD64 = 17;
    static final long MINCORE = 27;
    static final long MADVISE = 28;
    static final long GETPID = 39;
    static final long FCNTL = 72;
    static final long FSTATFS = 138;
    static final long OPENAT = 257;
    static final long PRLIMIT64 = 302;
    static final long PROCESS_VM_READV = 310;
    static final long MEMFD_CREATE = 319;
    static final long PREADV2 = 327;
    static final long STATX = 332;
    static final long IO_URING_SETUP = 425;
    static final long IO_URING_ENTER = 426;
    static final long CACHESTAT = 451;

    private static final StructLayout CALL_STATE = Linker.Option.captureStateLayout();
    private static final long ERRNO_OFFSET = offset(CALL_STATE, "errno");

    // long syscall(long number, ...), with as many arguments as a system call can have. The second is a
    // segment: that is where reads go, and memory cannot be unmapped while a call holds its segment. Not declared
    // as variadic: numbers and addresses are passed alike either way, and code for a variadic call takes the JVM
    // 10 ms more to build.
    private static final MethodHandle SYSCALL = Linker.nativeLinker().downcallHandle(
            Linker.nativeLinker().defaultLookup().findOrThrow("syscall"),
            FunctionDescriptor.of(
                    JAVA_LONG, JAVA_LONG, JAVA_LONG, ADDRESS, JAVA_LONG, JAVA_LONG, JAVA_LONG, JAVA_LONG),
            Linker.Option.captureCallState("errno"));

    /// A thread's own, and made once: with one for each call, reads left so much to the garbage collector that it
    /// stopped all of them for 10 ms twice in 60 GB.
    private static final ThreadLocal<MemorySegment> STATE =
            ThreadLocal.withInitial(() -> Arena.ofAuto().allocate(CALL_STATE));

    private Syscalls() {}

    /// As [MemoryLayout#byteOffset] finds it, which the JVM builds code for during 6 ms.
    private static long offset(StructLayout struct, String member) {
        long offset = 0;
        for (MemoryLayout layout : struct.memberLayouts()) {
            if (layout.name().isPresent() && layout.name().get().equals(member)) {
                return offset;
            }
            offset += layout.byteSize();
        }
        throw new AssertionError(struct + " has no " + member);
    }

    /// A call whose second argument is a number.
    static long call(String name, long number, long a, long b, long c, long d, long e, long f)
            throws ErrnoException {
        return call(name, number, a, MemorySegment.ofAddress(b), c, d, e, f);
    }

    /// Makes a system call. Memory in other places than `b` is passed by its address: the caller keeps it
    /// alive meanwhile.
    ///
    /// @param name for the error's text
    /// @param b memory, or a number in the guise of an address
    static long call(String name, long number, long a, MemorySegment b, long c, long d, long e, long f)
            throws ErrnoException {
        int errno;
        MemorySegment state = STATE.get();
        try {
            long result = (long) SYSCALL.invokeExact(state, number, a, b, c, d, e, f);
            // Not just < 0: what a system call returns may be an address.
            if (result != -1) {
                return result;
            }
            errno = state.get(JAVA_INT, ERRNO_OFFSET);
        } catch (RuntimeException | Error thrown) {
            throw thrown;
        } catch (Throwable checked) {
            throw new AssertionError("a downcall throws no checked exception", checked);
        }
        throw new ErrnoException(name, errno);
    }
}
