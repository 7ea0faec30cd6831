package io.instanttensor.posix;

import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/// A file's bytes as addresses, and the owner of that mapping. For one thread.
///
/// Nothing of this process reads through them. Where the file has been cut short, or its storage fails, that would
/// be SIGBUS: the JVM makes an error of it, at some later moment, and only while its handler is the one that is
/// called, which a program may have changed. The kernel copies instead, and says EFAULT.
public final class FileMapping implements AutoCloseable {
    private final MemorySegment mapped;
    private final long process;
    private final Arena arena = Arena.ofConfined();
    /// Two struct iovec: where to, and where from.
    private final MemorySegment vectors = arena.allocate(4 * JAVA_LONG.byteSize(), 8);
    private boolean closed;

    private FileMapping(MemorySegment mapped, long process) {
        this.mapped = mapped;
        this.process = process;
    }

    /// Maps a file for being read from its start to its end.
    ///
    /// @param bytes more than 0; the file may have fewer
    /// @throws ErrnoException where its file system does not map files, or this process has no room for it
    public static FileMapping of(int fd, long bytes) throws ErrnoException {
        long process = Syscalls.call("getpid", Syscalls.GETPID, 0, 0, 0, 0, 0, 0);
        MemorySegment mapped = Posix.mapForReading(fd, bytes);
        try {
            return new FileMapping(mapped, process);
        } catch (RuntimeException | Error e) {
            Posix.unmap(mapped);
            throw e;
        }
    }

    /// Copies bytes of the file, of which the last page's may lie behind its end.
    ///
    /// @param target that ends inside of the mapping
    /// @return how many were there to be copied, which is all where the file is whole
    /// @throws ErrnoException EFAULT where not even the first was there, and EPERM or ENOSYS where this process may
    ///     not have the kernel copy
    public long copy(long offset, MemorySegment target) throws ErrnoException {
        MemorySegment source = mapped.asSlice(offset, target.byteSize());
        vectors.setAtIndex(JAVA_LONG, 0, target.address());
        vectors.setAtIndex(JAVA_LONG, 1, target.byteSize());
        vectors.setAtIndex(JAVA_LONG, 2, source.address());
        vectors.setAtIndex(JAVA_LONG, 3, source.byteSize());
        // ssize_t process_vm_readv(pid_t pid, const struct iovec *local, unsigned long locals,
        //                          const struct iovec *remote, unsigned long remotes, unsigned long flags)
        return Syscalls.call("process_vm_readv", Syscalls.PROCESS_VM_READV, process, vectors, 1,
                vectors.address() + 2 * JAVA_LONG.byteSize(), 1, 0);
    }

    @Override
    public void close() {
        if (!closed) {
            closed = true;
            Posix.unmap(mapped);
            arena.close();
        }
    }
}
