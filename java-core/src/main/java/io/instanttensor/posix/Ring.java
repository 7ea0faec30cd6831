package io.instanttensor.posix;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.VarHandle;
import java.util.Arrays;
import java.util.concurrent.locks.LockSupport;

/// One io_uring: the owner of its descriptor and of the memory that it shares with the kernel. For one thread at a
/// time.
///
/// Reads are queued, and then made together by [#complete], which returns when all of them are done: between two
/// calls the kernel writes to nobody's memory, so there is never a read to be waited for, or cancelled, at the end.
/// A forked child inherits the descriptor, and not the memory without which it is of no use.
public final class Ring implements AutoCloseable {
    // linux/io_uring.h
    private static final long PARAMS_BYTES = 120;
    private static final long SQ_OFFSETS = 40;
    private static final long CQ_OFFSETS = 80;
    private static final long SQE_BYTES = 64;
    private static final long CQE_BYTES = 16;
    private static final long OFF_SQ_RING = 0;
    private static final long OFF_SQES = 0x10000000;
    private static final int ENTER_GETEVENTS = 1;
    private static final byte OP_NOP = 0;
    private static final byte OP_READ = 22;
    /// One mapping for both queues (Linux 5.4).
    private static final int FEAT_SINGLE_MMAP = 1;
    /// Of Linux 5.6, which brought plain reads.
    private static final int FEAT_RW_CUR_POS = 1 << 3;
    private static final int NEEDED_FEATURES = FEAT_SINGLE_MMAP | FEAT_RW_CUR_POS;
    private static final VarHandle INDEX = JAVA_INT.varHandle();
    private static final long POLL_NANOS = 1_000_000;

    private final int fd;
    private final MemorySegment queues;
    private final MemorySegment entries;
    private final int[] results;
    private final long tail;
    private final int mask;
    private final long completedHead;
    private final long completedTail;
    private final int completedMask;
    private final long completions;
    private int queued;
    private int inFlight;
    private boolean closed;

    private Ring(int fd, MemorySegment params, MemorySegment queues, MemorySegment entries) {
        this.fd = fd;
        this.queues = queues;
        this.entries = entries;
        this.results = new int[params.get(JAVA_INT, 0)];
        this.tail = params.get(JAVA_INT, SQ_OFFSETS + 4);
        this.mask = queues.get(JAVA_INT, params.get(JAVA_INT, SQ_OFFSETS + 8));
        this.completedHead = params.get(JAVA_INT, CQ_OFFSETS);
        this.completedTail = params.get(JAVA_INT, CQ_OFFSETS + 4);
        this.completedMask = queues.get(JAVA_INT, params.get(JAVA_INT, CQ_OFFSETS + 8));
        this.completions = params.get(JAVA_INT, CQ_OFFSETS + 20);
        long array = params.get(JAVA_INT, SQ_OFFSETS + 24);
        for (int i = 0; i < results.length; i++) {
            queues.set(JAVA_INT, array + i * JAVA_INT.byteSize(), i);
        }
    }

    /// @param reads that can be queued at once, a power of two
    /// @throws ErrnoException where this process gets no ring; ENOSYS where the kernel's have no plain reads
    public static Ring open(int reads) throws ErrnoException {
        return open(reads, false);
    }

    /// One that can be done without.
    ///
    /// @throws ErrnoException as from [#open]; EMFILE also where so few descriptors are left that the process needs them
    public static Ring openUnlessScarce(int reads) throws ErrnoException {
        return open(reads, true);
    }

    private static Ring open(int reads, boolean unlessScarce) throws ErrnoException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment params = arena.allocate(PARAMS_BYTES, 8);
            // int io_uring_setup(unsigned int entries, struct io_uring_params *params)
            int fd = Math.toIntExact(
                    Syscalls.call("io_uring_setup", Syscalls.IO_URING_SETUP, reads, params, 0, 0, 0, 0));
            if (unlessScarce) {
                Posix.unlessScarce("io_uring_setup", fd);
            }
            try {
                if ((params.get(JAVA_INT, 20) & NEEDED_FEATURES) != NEEDED_FEATURES) {
                    throw new ErrnoException("io_uring_setup: plain reads (Linux 5.6)", Errno.ENOSYS);
                }
                return mapped(fd, params);
            } catch (ErrnoException | RuntimeException | Error e) {
                Posix.close(fd);
                throw e;
            }
        }
    }

    private static Ring mapped(int fd, MemorySegment params) throws ErrnoException {
        long submissionBytes = params.get(JAVA_INT, SQ_OFFSETS + 24) + params.get(JAVA_INT, 0) * JAVA_INT.byteSize();
        long completionBytes = params.get(JAVA_INT, CQ_OFFSETS + 20) + params.get(JAVA_INT, 4) * CQE_BYTES;
        MemorySegment queues = map(fd, Math.max(submissionBytes, completionBytes), OFF_SQ_RING);
        MemorySegment entries = null;
        try {
            entries = map(fd, params.get(JAVA_INT, 0) * SQE_BYTES, OFF_SQES);
            return new Ring(fd, params, queues, entries);
        } catch (ErrnoException | RuntimeException | Error e) {
            Posix.unmap(queues);
            if (entries != null) {
                Posix.unmap(entries);
            }
            throw e;
        }
    }

    private static MemorySegment map(int fd, long bytes, long offset) throws ErrnoException {
        MemorySegment mapped = Posix.mapRing(fd, bytes, offset);
        try {
            Posix.keepFromChildren(mapped);
            return mapped;
        } catch (ErrnoException e) {
            Posix.unmap(mapped);
            throw e;
        }
    }

    /// How many reads can be queued at once.
    public int reads() {
        return results.length;
    }

    /// Queues a read of all of `target`, which has to live until [#complete] returns.
    ///
    /// @return its number, in [#results]: 0 for the first after [#complete]
    public int queue(int file, MemorySegment target, long offset) {
        return queue(OP_READ, file, target, offset);
    }

    /// Queues an operation that does nothing: that it completes tells that this process may use its rings.
    ///
    /// @return as [#queue]
    public int queueNothing() {
        return queue(OP_NOP, -1, MemorySegment.NULL, 0);
    }

    private int queue(byte operation, int file, MemorySegment target, long offset) {
        if (queued == results.length) {
            throw new IllegalStateException(queued + " reads are queued, which is all the ring holds");
        }
        int at = queues.get(JAVA_INT, tail);
        long entry = (at & mask) * SQE_BYTES;
        // Its other fields stay as they were mapped, zero.
        entries.set(JAVA_BYTE, entry, operation);
        entries.set(JAVA_INT, entry + 4, file);
        entries.set(JAVA_LONG, entry + 8, offset);
        entries.set(JAVA_LONG, entry + 16, target.address());
        entries.set(JAVA_INT, entry + 24, Math.toIntExact(target.byteSize()));
        entries.set(JAVA_LONG, entry + 32, queued);
        // What the kernel sees of the entry is what was written before.
        INDEX.setRelease(queues, tail, at + 1);
        return queued++;
    }

    /// Makes all reads that are queued, and waits for them. Where this throws, too, none of them is under way any more.
    ///
    /// @throws ErrnoException where the kernel takes none of them, or says no more of those that it took
    public void complete() throws ErrnoException {
        // What the kernel had no memory to take is as one that it wants to be asked for again.
        Arrays.fill(results, -Errno.EAGAIN);
        ErrnoException failure = null;
        while (queued + inFlight > 0) {
            try {
                enter();
            } catch (ErrnoException e) {
                if (e.errno() != Errno.EINTR) {
                    failure = e.errno() == Errno.EAGAIN || e.errno() == Errno.EBUSY ? failure : e;
                    withdraw();
                }
            }
            collect();
        }
        if (failure != null) {
            throw failure;
        }
    }

    private void enter() throws ErrnoException {
        // int io_uring_enter(unsigned int fd, unsigned int to_submit, unsigned int min_complete,
        //                    unsigned int flags, sigset_t *sig, size_t sigset_bytes)
        int taken = Math.toIntExact(Syscalls.call("io_uring_enter", Syscalls.IO_URING_ENTER, fd, queued,
                queued + inFlight, ENTER_GETEVENTS, 0, 0));
        queued -= taken;
        inFlight += taken;
    }

    /// Takes back what the kernel has not taken. It looks at the queue only when it is entered.
    private void withdraw() {
        INDEX.setRelease(queues, tail, queues.get(JAVA_INT, tail) - queued);
        queued = 0;
        if (inFlight > 0) {
            // Not even waiting works, and what is in flight arrives all the same.
            LockSupport.parkNanos(POLL_NANOS);
        }
    }

    private void collect() {
        int head = queues.get(JAVA_INT, completedHead);
        int end = (int) INDEX.getAcquire(queues, completedTail);
        for (; head != end; head++) {
            long completion = completions + (head & completedMask) * CQE_BYTES;
            results[Math.toIntExact(queues.get(JAVA_LONG, completion))] = queues.get(JAVA_INT, completion + 8);
            inFlight--;
        }
        INDEX.setRelease(queues, completedHead, head);
    }

    /// What came of the reads of the last [#complete], by their numbers: bytes, 0 at the end of the file, or less than
    /// 0: an errno, negated. Written again by the next.
    public int[] results() {
        return results;
    }

    /// The error that a result less than 0 stands for.
    public static ErrnoException error(int result) {
        return new ErrnoException("io_uring read", -result);
    }

    @Override
    public void close() {
        if (!closed) {
            closed = true;
            Posix.unmap(entries);
            Posix.unmap(queues);
            Posix.close(fd);
        }
    }
}
