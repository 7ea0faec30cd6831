package io.instanttensor.file;

import io.instanttensor.cufile.CuFileHandle;
import io.instanttensor.posix.Errno;
import io.instanttensor.posix.ErrnoException;
import io.instanttensor.posix.FileStat;
import io.instanttensor.posix.Posix;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.Locale;
import java.util.concurrent.atomic.AtomicBoolean;

/// One open file of a checkpoint: the owner of its descriptor. Any thread may read, at positions of its
/// own; closing while others read is the caller's fault, so whoever closes waits for the readers first.
public final class CheckpointFile implements AutoCloseable {
    private final Path path;
    private final int fd;
    private final FileStat stat;
    private final AtomicBoolean closed = new AtomicBoolean();
    /// Null unless it is read by libcufile; it ends with the descriptor.
    private volatile CuFileHandle deviceHandle;

    private CheckpointFile(Path path, int fd, FileStat stat) {
        this.path = path;
        this.fd = fd;
        this.stat = stat;
    }

    /// Opens a regular file.
    ///
    /// @throws FileException with the errno of what went wrong; EISDIR and EINVAL where `path` is no
    ///     regular file
    public static CheckpointFile open(Path path) throws FileException {
        int fd;
        try {
            fd = Posix.open(path);
        } catch (ErrnoException e) {
            throw new FileException(path, e.errno(), e.getMessage());
        }
        try {
            FileStat stat = Posix.stat(fd);
            if (!stat.regular()) {
                throw new FileException(path, stat.directory() ? Errno.EISDIR : Errno.EINVAL,
                        "expected a regular file, found " + (stat.directory() ? "a directory" : "something else"));
            }
            Posix.setWaiting(fd);
            return new CheckpointFile(path, fd, stat);
        } catch (ErrnoException e) {
            Posix.close(fd);
            throw new FileException(path, e.errno(), e.getMessage());
        } catch (FileException e) {
            Posix.close(fd);
            throw e;
        }
    }

    /// The same file by a descriptor of its own. On many network mounts each has its own share of the bandwidth, or
    /// a read-ahead of its own.
    ///
    /// @param direct whether its reads bypass the page cache
    public CheckpointFile reopened(boolean direct) throws ErrnoException {
        return new CheckpointFile(path, Posix.reopen(fd, direct), stat);
    }

    public Path path() {
        return path;
    }

    /// Its size when it was opened.
    public long bytes() {
        return stat.bytes();
    }

    /// What the kernel said when it was opened.
    public FileStat stat() {
        return stat;
    }

    /// For the system calls of the read stage; stays this object's.
    public int descriptor() {
        return fd;
    }

    /// Takes over what libcufile made of the descriptor, and closes it first.
    public void attach(CuFileHandle handle) {
        deviceHandle = handle;
    }

    /// What was attached; null where nothing was.
    public CuFileHandle deviceHandle() {
        return deviceHandle;
    }

    /// Fills `target` from `offset`, in as many reads as it takes; who waits is told where that takes long.
    ///
    /// @throws FileException where the file ends before that, with what was expected and what came
    public void readFully(MemorySegment target, long offset) throws FileException {
        long got;
        try (ReadUnderWay read = ReadUnderWay.ofThread()) {
            read.begin(this, offset, target.byteSize());
            got = readUpTo(target, offset, target.byteSize());
        }
        if (got < target.byteSize()) {
            throw endedEarly(offset, target.byteSize(), got);
        }
    }

    /// Reads until `neededBytes` have come or the file ends; a single read may bring more than was
    /// needed, and `target` has room for it.
    ///
    /// @return the bytes that came
    public long readUpTo(MemorySegment target, long offset, long neededBytes) throws FileException {
        long got = 0;
        while (got < neededBytes) {
            long read = readOnce(target.asSlice(got), offset + got);
            if (read == 0) {
                break;
            }
            got += read;
        }
        return got;
    }

    /// One read, which may bring less than asked for; 0 at the end of the file.
    public long readOnce(MemorySegment target, long offset) throws FileException {
        try {
            return Posix.pread(fd, target, offset);
        } catch (ErrnoException e) {
            throw readNothing(offset, target.byteSize(), e);
        }
    }

    /// The error for a read that failed.
    public FileException readNothing(long offset, long expectedBytes, ErrnoException e) {
        return readNothing(offset, expectedBytes, e.errno(), e.getMessage());
    }

    /// @param errno 0 where no system call failed
    public FileException readNothing(long offset, long expectedBytes, int errno, String reason) {
        return new FileException(path, errno, "expected to read " + grouped(expectedBytes) + " bytes at "
                + grouped(offset) + ", read none: " + reason);
    }

    /// The error for a file that was whole when it was opened and is not any more; or whose reads come short, though
    /// by its size it goes on.
    ///
    /// @throws FileException where the kernel does not tell its size
    public FileException endedEarly(long offset, long expectedBytes, long gotBytes) throws FileException {
        long now = bytesNow();
        String reason = now > offset + gotBytes
                ? "no more came, though the file has " + grouped(now) + " bytes"
                : "the file ends there";
        return new FileException(path, 0, "read " + grouped(gotBytes) + " of " + grouped(expectedBytes) + " bytes at "
                + grouped(offset) + ": " + reason + " (it had " + grouped(bytes()) + " bytes when it was opened)");
    }

    /// Compares the size with the one at opening, before a load's first read of it.
    ///
    /// @param offset of that read, for the message
    /// @param expectedBytes of that read
    /// @throws FileException where the file has been truncated or has grown since
    public void requireUnchanged(long offset, long expectedBytes) throws FileException {
        long now = bytesNow();
        if (now != bytes()) {
            throw new FileException(path, 0, "expected to read " + grouped(expectedBytes) + " bytes at "
                    + grouped(offset) + ", read none: the file has " + grouped(now) + " bytes, and had "
                    + grouped(bytes()) + " when it was opened");
        }
    }

    /// Compares the size with the one at opening, after a read: where a file on a network or in user space
    /// shrinks meanwhile, the kernel can fill up what it has read with zeros, and report no error.
    ///
    /// @throws FileException where the file has been truncated or has grown since
    public void requireStillWhole(long offset, long readBytes) throws FileException {
        long now = bytesNow();
        if (now != bytes()) {
            long there = Math.clamp(now - offset, 0, readBytes);
            throw new FileException(path, 0, "read " + grouped(there) + " of " + grouped(readBytes) + " bytes at "
                    + grouped(offset) + ": the file has " + grouped(now) + " bytes (it had " + grouped(bytes())
                    + " bytes when it was opened)");
        }
    }

    private long bytesNow() throws FileException {
        try {
            return Posix.size(fd);
        } catch (ErrnoException e) {
            throw new FileException(path, e.errno(), e.getMessage());
        }
    }

    private static String grouped(long number) {
        return String.format(Locale.ROOT, "%,d", number);
    }

    @Override
    public void close() {
        if (closed.compareAndSet(false, true)) {
            if (deviceHandle != null) {
                deviceHandle.close();
            }
            Posix.close(fd);
        }
    }
}
