package io.instanttensor.posix;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;

/// The system calls that we make, function by function. Thread-safe; holds no state.
public final class Posix {
    /// Of the page cache.
    public static final long PAGE_BYTES = 4096;

    private static final int AT_FDCWD = -100;
    private static final int AT_EMPTY_PATH = 0x1000;
    private static final int O_CLOEXEC = 0x80000;
    private static final int O_NONBLOCK = 0x800;
    private static final int O_DIRECT = 0x4000;
    private static final int MFD_CLOEXEC = 1;
    private static final int F_SETFL = 4;
    private static final int RLIMIT_NOFILE = 7;
    /// For the caller, and for what we open for a moment (the kernel's account of memory), while readers read.
    private static final int LEFT_DESCRIPTORS = 64;
    private static final int PROT_NONE = 0;
    private static final int PROT_READ = 1;
    private static final int PROT_READ_WRITE = 3;
    private static final int MAP_SHARED = 1;
    private static final int MAP_PRIVATE_ANONYMOUS = 0x22;
    private static final int MADV_SEQUENTIAL = 2;
    private static final int MADV_DONTFORK = 10;
    private static final int MADV_HUGEPAGE = 14;
    private static final int RWF_NOWAIT = 8;
    private static final long STATFS_BYTES = 120;
    private static final long CACHESTAT_BYTES = 40;
    /// A NUL. Not made from a text, which takes the JVM 5 ms the first time.
    private static final MemorySegment NO_PATH = Arena.global().allocate(1);
    private static final ThreadLocal<MemorySegment> SIZE =
            ThreadLocal.withInitial(() -> Arena.ofAuto().allocate(FileStat.STATX_BYTES, 8));

    private Posix() {}

    /// Makes a system call that changes nothing: the first one of a process takes the JVM 60 ms to build.
    public static void prepare() throws ErrnoException {
        Syscalls.call("getpid", Syscalls.GETPID, 0, 0, 0, 0, 0, 0);
    }

    /// Opens for reading. A fifo opens too, without waiting for its writer; it is for [#stat] to refuse it.
    public static int open(Path path) throws ErrnoException {
        try (Arena arena = Arena.ofConfined()) {
            // int openat(int dirfd, const char *path, int flags, mode_t mode)
            return Math.toIntExact(Syscalls.call("open", Syscalls.OPENAT, AT_FDCWD,
                    arena.allocateFrom(path.toString()).address(), O_CLOEXEC | O_NONBLOCK, 0, 0, 0));
        }
    }

    /// Opens once more what a descriptor of ours is open on, wherever its path leads by now.
    ///
    /// @param direct whether reads bypass the page cache, as after [#setDirect]
    /// @throws ErrnoException EMFILE also where there are descriptors, and so few that they are left to the process
    public static int reopen(int fd, boolean direct) throws ErrnoException {
        try (Arena arena = Arena.ofConfined()) {
            String path = "/proc/self/fd/".concat(Integer.toString(fd));
            int flags = O_CLOEXEC | (direct ? O_DIRECT : 0);
            return unlessScarce("open", Math.toIntExact(Syscalls.call(
                    "open", Syscalls.OPENAT, AT_FDCWD, arena.allocateFrom(path).address(), flags, 0, 0, 0)));
        }
    }

    /// A descriptor that we can do without, unless it is one of the last: then it is closed. Linux gives the lowest
    /// number that is free, so behind it there are no more than up to the limit.
    ///
    /// @throws ErrnoException EMFILE, as if there were none at all
    static int unlessScarce(String call, int fd) throws ErrnoException {
        if (fd < openLimit() - LEFT_DESCRIPTORS) {
            return fd;
        }
        close(fd);
        throw new ErrnoException(call, Errno.EMFILE);
    }

    /// How many descriptors this process may have (RLIMIT_NOFILE), now.
    private static long openLimit() {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment limit = arena.allocate(2 * JAVA_LONG.byteSize(), 8);
            // int prlimit64(pid_t pid, int resource, const struct rlimit64 *new_limit, struct rlimit64 *old_limit)
            Syscalls.call("prlimit64", Syscalls.PRLIMIT64, 0, RLIMIT_NOFILE, 0, limit.address(), 0, 0);
            return limit.get(JAVA_LONG, 0);
        } catch (ErrnoException e) {
            // Where a sandbox forbids to ask, whoever opens is told soon enough.
            return Long.MAX_VALUE;
        }
    }

    /// A file that exists in memory only, until its descriptor is closed.
    public static int memoryFile(String name) throws ErrnoException {
        try (Arena arena = Arena.ofConfined()) {
            // int memfd_create(const char *name, unsigned int flags)
            return Math.toIntExact(Syscalls.call("memfd_create", Syscalls.MEMFD_CREATE,
                    arena.allocateFrom(name).address(), MFD_CLOEXEC, 0, 0, 0, 0));
        }
    }

    /// Closes. Linux has given the descriptor back even where this fails, so there is nothing to retry.
    public static void close(int fd) {
        try {
            // int close(int fd)
            Syscalls.call("close", Syscalls.CLOSE, fd, 0, 0, 0, 0, 0);
        } catch (ErrnoException e) {
            if (e.errno() == Errno.EBADF) {
                throw new AssertionError("descriptor " + fd + " was closed by somebody else", e);
            }
        }
    }

    /// Reads at most all of `target` from `offset`; 0 at the end of the file.
    public static long pread(int fd, MemorySegment target, long offset) throws ErrnoException {
        while (true) {
            try {
                // ssize_t pread(int fd, void *buf, size_t count, off_t offset)
                return Syscalls.call(
                        "pread", Syscalls.PREAD64, fd, target, target.byteSize(), offset, 0, 0);
            } catch (ErrnoException e) {
                if (e.errno() != Errno.EINTR) {
                    throw e;
                }
            }
        }
    }

    /// Has reads wait for their bytes, which [#open] leaves open: what is on tape is fetched for those who
    /// wait, and others get EAGAIN.
    public static void setWaiting(int fd) throws ErrnoException {
        setFlags(fd, 0);
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
        // int fcntl(int fd, int cmd, int flags)
        Syscalls.call("fcntl(F_SETFL, " + (flags == O_DIRECT ? "O_DIRECT" : "0") + ")", Syscalls.FCNTL, fd, F_SETFL,
                flags, 0, 0, 0);
    }

    /// The file's size now, as a network file system knows it. Asked after every read, so it leaves nothing to
    /// the garbage collector.
    public static long size(int fd) throws ErrnoException {
        MemorySegment buffer = SIZE.get();
        Syscalls.call("statx", Syscalls.STATX, fd, NO_PATH, AT_EMPTY_PATH, FileStat.SIZE_MASK, buffer.address(), 0);
        return FileStat.size(buffer);
    }

    /// What the kernel says of an open file.
    public static FileStat stat(int fd) throws ErrnoException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment buffer = arena.allocate(FileStat.STATX_BYTES, 8);
            // int statx(int dirfd, const char *path, int flags, unsigned int mask, struct statx *buf)
            Syscalls.call("statx", Syscalls.STATX, fd, NO_PATH, AT_EMPTY_PATH, FileStat.MASK, buffer.address(), 0);
            return FileStat.of(buffer);
        }
    }

    /// The file system's magic number (statfs(2)).
    public static long fileSystemMagic(int fd) throws ErrnoException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment buffer = arena.allocate(STATFS_BYTES, 8);
            // int fstatfs(int fd, struct statfs *buf)
            Syscalls.call("fstatfs", Syscalls.FSTATFS, fd, buffer.address(), 0, 0, 0, 0);
            return buffer.get(JAVA_LONG, 0);
        }
    }

    /// How many pages of a range the page cache holds (cachestat(2), Linux 6.5; the file's owner only).
    public static long cachedPages(int fd, long offset, long bytes) throws ErrnoException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment range = arena.allocate(2 * JAVA_LONG.byteSize(), 8);
            range.setAtIndex(JAVA_LONG, 0, offset);
            range.setAtIndex(JAVA_LONG, 1, bytes);
            MemorySegment result = arena.allocate(CACHESTAT_BYTES, 8);
            // int cachestat(unsigned int fd, struct cachestat_range *range, struct cachestat *result,
            //               unsigned int flags)
            Syscalls.call("cachestat", Syscalls.CACHESTAT, fd, range.address(), result.address(), 0, 0, 0);
            return result.get(JAVA_LONG, 0);
        }
    }

    /// Whether a read at `offset` is answered from the page cache (preadv2 with RWF_NOWAIT).
    /// A miss makes the kernel start reading that place and what comes behind it.
    public static boolean readsWithoutWaiting(int fd, long offset) throws ErrnoException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment iovec = arena.allocate(2 * JAVA_LONG.byteSize(), 8);
            iovec.setAtIndex(JAVA_LONG, 0, arena.allocate(1).address());
            iovec.setAtIndex(JAVA_LONG, 1, 1);
            // ssize_t preadv2(int fd, const struct iovec *iov, int iovcnt, long pos_l, long pos_h, int flags)
            Syscalls.call("preadv2(RWF_NOWAIT)", Syscalls.PREADV2, fd, iovec.address(), 1, offset, 0, RWF_NOWAIT);
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
        return map("mmap of " + bytes + " bytes", bytes, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0);
    }

    /// A file's bytes as addresses, for [#resident]: they cannot be read through. To be given back with [#unmap].
    public static MemorySegment mapUnreadable(int fd, long bytes) throws ErrnoException {
        return map("mmap of a file's " + bytes + " bytes", bytes, PROT_NONE, MAP_SHARED, fd, 0);
    }

    /// A file's bytes, for [FileMapping]: with read-ahead as for one that is read from its start to its end. To be
    /// given back with [#unmap].
    static MemorySegment mapForReading(int fd, long bytes) throws ErrnoException {
        MemorySegment mapped = map("mmap of a file's " + bytes + " bytes", bytes, PROT_READ, MAP_SHARED, fd, 0);
        try {
            advise(mapped, "MADV_SEQUENTIAL", MADV_SEQUENTIAL);
            return mapped;
        } catch (ErrnoException e) {
            unmap(mapped);
            throw e;
        }
    }

    /// A part of a ring's memory, for [Ring]. To be given back with [#unmap].
    static MemorySegment mapRing(int fd, long bytes, long offset) throws ErrnoException {
        return map("mmap of io_uring's " + bytes + " bytes", bytes, PROT_READ_WRITE, MAP_SHARED, fd, offset);
    }

    private static MemorySegment map(String name, long bytes, int protection, int flags, int fd, long offset)
            throws ErrnoException {
        // void *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
        long address = Syscalls.call(name, Syscalls.MMAP, 0, bytes, protection, flags, fd, offset);
        return MemorySegment.ofAddress(address).reinterpret(bytes);
    }

    /// Whether the page cache holds every page of a range of a mapped file (mincore(2)). Says yes to those who neither
    /// own the file nor may write to it.
    public static boolean resident(MemorySegment mapped, long offset, long bytes) throws ErrnoException {
        long start = offset & -PAGE_BYTES;
        long pages = Math.ceilDiv(offset + bytes - start, PAGE_BYTES);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment found = arena.allocate(pages);
            // int mincore(void *addr, size_t length, unsigned char *vec)
            Syscalls.call("mincore", Syscalls.MINCORE, mapped.address() + start,
                    MemorySegment.ofAddress(pages * PAGE_BYTES), found.address(), 0, 0, 0);
            for (long page = 0; page < pages; page++) {
                if ((found.get(JAVA_BYTE, page) & 1) == 0) {
                    return false;
                }
            }
            return true;
        }
    }

    /// Asks for huge pages, wherever a whole one fits. Without them, or where they are switched off, pages stay small.
    public static void preferHugePages(MemorySegment mapped) {
        try {
            advise(mapped, "MADV_HUGEPAGE", MADV_HUGEPAGE);
        } catch (ErrnoException e) {
            // A kernel built without them says EINVAL.
        }
    }

    /// Keeps pages out of forked children. Where parent and child share pages, the next write makes a copy of one for
    /// the writer, and a device that reads by physical address would go on reading the other.
    public static void keepFromChildren(MemorySegment mapped) throws ErrnoException {
        advise(mapped, "MADV_DONTFORK", MADV_DONTFORK);
    }

    private static void advise(MemorySegment mapped, String name, int advice) throws ErrnoException {
        // int madvise(void *addr, size_t length, int advice)
        Syscalls.call("madvise(" + name + ")", Syscalls.MADVISE, mapped.address(),
                MemorySegment.ofAddress(mapped.byteSize()), advice, 0, 0, 0);
    }

    public static void unmap(MemorySegment mapped) {
        try {
            // int munmap(void *addr, size_t length)
            Syscalls.call("munmap", Syscalls.MUNMAP, mapped.address(), mapped.byteSize(), 0, 0, 0, 0);
        } catch (ErrnoException e) {
            throw new AssertionError("munmap of " + mapped, e);
        }
    }
}
