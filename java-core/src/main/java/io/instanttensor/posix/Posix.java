package io.instanttensor.posix;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.VarHandle;
import java.nio.file.Path;

/// The C library, function by function. Thread-safe; holds no state.
public final class Posix {
    private static final Linker LINKER = Linker.nativeLinker();
    private static final SymbolLookup LIBC = LINKER.defaultLookup();
    private static final Linker.Option WITH_ERRNO = Linker.Option.captureCallState("errno");
    private static final MemoryLayout CALL_STATE = Linker.Option.captureStateLayout();
    private static final VarHandle ERRNO =
            CALL_STATE.varHandle(MemoryLayout.PathElement.groupElement("errno"));

    // int open(const char *path, int flags, ...)
    private static final MethodHandle OPEN = LINKER.downcallHandle(
            symbol("open"), FunctionDescriptor.of(JAVA_INT, ADDRESS, JAVA_INT), WITH_ERRNO,
            Linker.Option.firstVariadicArg(2));
    // int close(int fd)
    private static final MethodHandle CLOSE = downcall("close", FunctionDescriptor.of(JAVA_INT, JAVA_INT));
    // ssize_t pread(int fd, void *buf, size_t count, off_t offset)
    private static final MethodHandle PREAD =
            downcall("pread", FunctionDescriptor.of(JAVA_LONG, JAVA_INT, ADDRESS, JAVA_LONG, JAVA_LONG));
    // int fcntl(int fd, int cmd, ...)
    private static final MethodHandle FCNTL = LINKER.downcallHandle(
            symbol("fcntl"), FunctionDescriptor.of(JAVA_INT, JAVA_INT, JAVA_INT, JAVA_INT), WITH_ERRNO,
            Linker.Option.firstVariadicArg(2));
    // long syscall(long number, ...), here with as many arguments as preadv2 has
    private static final MethodHandle SYSCALL = LINKER.downcallHandle(
            symbol("syscall"),
            FunctionDescriptor.of(
                    JAVA_LONG, JAVA_LONG, JAVA_LONG, JAVA_LONG, JAVA_LONG, JAVA_LONG, JAVA_LONG, JAVA_LONG),
            WITH_ERRNO, Linker.Option.firstVariadicArg(1));
    // int fstatfs(int fd, struct statfs *buf)
    private static final MethodHandle FSTATFS =
            downcall("fstatfs", FunctionDescriptor.of(JAVA_INT, JAVA_INT, ADDRESS));
    // void *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
    private static final MethodHandle MMAP = downcall("mmap",
            FunctionDescriptor.of(ADDRESS, ADDRESS, JAVA_LONG, JAVA_INT, JAVA_INT, JAVA_INT, JAVA_LONG));
    // int munmap(void *addr, size_t length)
    private static final MethodHandle MUNMAP =
            downcall("munmap", FunctionDescriptor.of(JAVA_INT, ADDRESS, JAVA_LONG));
    // char *strerror(int errnum)
    private static final MethodHandle STRERROR =
            LINKER.downcallHandle(symbol("strerror"), FunctionDescriptor.of(ADDRESS, JAVA_INT));

    private static final int O_CLOEXEC = 0x80000;
    private static final int O_NONBLOCK = 0x800;
    private static final int O_DIRECT = 0x4000;
    private static final int F_SETFL = 4;
    private static final int PROT_READ_WRITE = 3;
    private static final int MAP_PRIVATE_ANONYMOUS = 0x22;
    private static final long SYS_STATX = 332;
    private static final long SYS_PREADV2 = 327;
    private static final long SYS_CACHESTAT = 451;
    private static final int AT_EMPTY_PATH = 0x1000;
    private static final int RWF_NOWAIT = 8;
    private static final long STATFS_BYTES = 120;

    private Posix() {}

    /// Opens for reading. A fifo opens too, without waiting for its writer; it is for [#stat] to refuse it.
    public static int open(Path path) throws ErrnoException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment state = arena.allocate(CALL_STATE);
            int fd = (int) OPEN.invokeExact(
                    state, arena.allocateFrom(path.toString()), O_CLOEXEC | O_NONBLOCK);
            return check("open", fd, state);
        } catch (Throwable e) {
            throw rethrow(e);
        }
    }

    /// Closes. Linux has given the descriptor back even where this fails, so there is nothing to retry.
    public static void close(int fd) {
        try (Arena arena = Arena.ofConfined()) {
            int unused = (int) CLOSE.invokeExact(arena.allocate(CALL_STATE), fd);
        } catch (Throwable e) {
            throw new AssertionError("close(" + fd + ")", e);
        }
    }

    /// Reads at most all of `target` from `offset`; 0 at the end of the file.
    public static long pread(int fd, MemorySegment target, long offset) throws ErrnoException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment state = arena.allocate(CALL_STATE);
            long read;
            do {
                read = (long) PREAD.invokeExact(state, fd, target, target.byteSize(), offset);
            } while (read < 0 && (int) ERRNO.get(state, 0L) == Errno.EINTR);
            if (read < 0) {
                throw new ErrnoException("pread", (int) ERRNO.get(state, 0L));
            }
            return read;
        } catch (Throwable e) {
            throw rethrow(e);
        }
    }

    /// Switches a descriptor to direct I/O: reads then bypass the page cache, and want aligned
    /// addresses, offsets and lengths.
    public static void setDirect(int fd) throws ErrnoException {
        setFlags(fd, O_DIRECT);
    }

    /// Undoes [#setDirect].
    public static void clearDirect(int fd) throws ErrnoException {
        setFlags(fd, 0);
    }

    private static void setFlags(int fd, int flags) throws ErrnoException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment state = arena.allocate(CALL_STATE);
            int rc = (int) FCNTL.invokeExact(state, fd, F_SETFL, flags);
            check("fcntl(F_SETFL, " + (flags == O_DIRECT ? "O_DIRECT" : "0") + ")", rc, state);
        } catch (Throwable e) {
            throw rethrow(e);
        }
    }

    /// What the kernel says of an open file.
    public static FileStat stat(int fd) throws ErrnoException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment buffer = arena.allocate(FileStat.STATX_BYTES, 8);
            syscall(arena, "statx", SYS_STATX, fd, arena.allocateFrom("").address(), AT_EMPTY_PATH, FileStat.MASK,
                    buffer.address(), 0);
            return FileStat.of(buffer);
        }
    }

    /// The file system's magic number (statfs(2)).
    public static long fileSystemMagic(int fd) throws ErrnoException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment state = arena.allocate(CALL_STATE);
            MemorySegment buffer = arena.allocate(STATFS_BYTES, 8);
            int rc = (int) FSTATFS.invokeExact(state, fd, buffer);
            check("fstatfs", rc, state);
            return buffer.get(JAVA_LONG, 0);
        } catch (Throwable e) {
            throw rethrow(e);
        }
    }

    /// How many pages of a range the page cache holds (cachestat(2), Linux 6.5; the file's owner only).
    public static long cachedPages(int fd, long offset, long bytes) throws ErrnoException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment range = arena.allocate(16, 8);
            range.set(JAVA_LONG, 0, offset);
            range.set(JAVA_LONG, 8, bytes);
            MemorySegment result = arena.allocate(40, 8);
            syscall(arena, "cachestat", SYS_CACHESTAT, fd, range.address(), result.address(), 0, 0, 0);
            return result.get(JAVA_LONG, 0);
        }
    }

    /// Whether a read at `offset` is answered from the page cache (preadv2 with RWF_NOWAIT).
    /// A miss makes the kernel start reading that place.
    public static boolean readsWithoutWaiting(int fd, long offset) throws ErrnoException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment iovec = arena.allocate(16, 8);
            iovec.set(ADDRESS, 0, arena.allocate(1));
            iovec.set(JAVA_LONG, 8, 1);
            syscall(arena, "preadv2(RWF_NOWAIT)", SYS_PREADV2, fd, iovec.address(), 1, offset, 0, RWF_NOWAIT);
            return true;
        } catch (ErrnoException e) {
            if (e.errno() == Errno.EAGAIN) {
                return false;
            }
            throw e;
        }
    }

    /// Fresh pages from the kernel, zero when first touched; to be given back with [#unmap].
    public static MemorySegment mapAnonymous(long bytes) throws ErrnoException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment state = arena.allocate(CALL_STATE);
            MemorySegment mapped = (MemorySegment) MMAP.invokeExact(
                    state, MemorySegment.NULL, bytes, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0L);
            if (mapped.address() == -1) {
                throw new ErrnoException("mmap of " + bytes + " bytes", (int) ERRNO.get(state, 0L));
            }
            return mapped.reinterpret(bytes);
        } catch (Throwable e) {
            throw rethrow(e);
        }
    }

    public static void unmap(MemorySegment mapped) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment state = arena.allocate(CALL_STATE);
            int rc = (int) MUNMAP.invokeExact(state, mapped, mapped.byteSize());
            check("munmap", rc, state);
        } catch (Throwable e) {
            throw new AssertionError("munmap of " + mapped, e);
        }
    }

    /// `Input/output error (errno 5)`.
    static String describe(int errno) {
        try {
            MemorySegment text = (MemorySegment) STRERROR.invokeExact(errno);
            return text.reinterpret(Long.MAX_VALUE).getString(0) + " (errno " + errno + ")";
        } catch (Throwable e) {
            throw new AssertionError("strerror(" + errno + ")", e);
        }
    }

    private static long syscall(Arena arena, String call, long number, long... arguments) throws ErrnoException {
        try {
            MemorySegment state = arena.allocate(CALL_STATE);
            long rc = (long) SYSCALL.invokeExact(state, number, arguments[0], arguments[1], arguments[2],
                    arguments[3], arguments[4], arguments[5]);
            if (rc < 0) {
                throw new ErrnoException(call, (int) ERRNO.get(state, 0L));
            }
            return rc;
        } catch (Throwable e) {
            throw rethrow(e);
        }
    }

    private static int check(String call, int rc, MemorySegment state) throws ErrnoException {
        if (rc < 0) {
            throw new ErrnoException(call, (int) ERRNO.get(state, 0L));
        }
        return rc;
    }

    private static RuntimeException rethrow(Throwable e) throws ErrnoException {
        switch (e) {
            case ErrnoException errno -> throw errno;
            case RuntimeException runtime -> throw runtime;
            case Error error -> throw error;
            default -> throw new AssertionError("a downcall throws no checked exception", e);
        }
    }

    private static MethodHandle downcall(String name, FunctionDescriptor descriptor) {
        return LINKER.downcallHandle(symbol(name), descriptor, WITH_ERRNO);
    }

    private static MemorySegment symbol(String name) {
        return LIBC.find(name).orElseThrow(() -> new UnsatisfiedLinkError("libc has no " + name));
    }
}
