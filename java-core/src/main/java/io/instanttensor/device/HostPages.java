package io.instanttensor.device;

import io.instanttensor.posix.ErrnoException;
import io.instanttensor.posix.Posix;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/// One anonymous mapping, and its owner. The segment ends with it: whoever still holds it gets an
/// exception and not a fault, and it cannot be unmapped under a system call that is using it.
public final class HostPages implements AutoCloseable {
    private static final long HUGE_PAGE_BYTES = 2L << 20;

    private final Lifetime lifetime;
    private final Arena arena = Arena.ofShared();
    private final MemorySegment mapped;
    private final MemorySegment segment;

    private HostPages(String what, MemorySegment mapped) {
        this.lifetime = new Lifetime(what);
        this.mapped = mapped;
        this.segment = mapped.reinterpret(arena, null);
    }

    /// Maps pages, which the kernel hands out zeroed when they are first touched: huge ones where it has them, since
    /// readers that touch small ones are held up by that more than by many a storage.
    static HostPages map(String what, long bytes) throws ErrnoException {
        if (bytes < HUGE_PAGE_BYTES) {
            return new HostPages(what, Posix.mapAnonymous(bytes));
        }
        MemorySegment mapped = mapAligned(bytes);
        Posix.preferHugePages(mapped);
        return new HostPages(what, mapped);
    }

    /// Maps pages for a device, a GPU or a disk: huge ones where the kernel has them, since it pins page by page, and
    /// ours alone, since a forked child that shared them would take what is written later away from the device.
    public static HostPages mapForDevice(String what, long bytes) throws ErrnoException {
        HostPages pages = new HostPages(what, mapAligned(bytes));
        try {
            Posix.keepFromChildren(pages.mapped);
            Posix.preferHugePages(pages.mapped);
            return pages;
        } catch (ErrnoException | RuntimeException | Error e) {
            pages.close();
            throw e;
        }
    }

    /// Whole pages that begin where a huge one can.
    private static MemorySegment mapAligned(long bytes) throws ErrnoException {
        long whole = Math.ceilDiv(bytes, Posix.PAGE_BYTES) * Posix.PAGE_BYTES;
        MemorySegment wide = Posix.mapAnonymous(whole + HUGE_PAGE_BYTES);
        long before = -wide.address() & (HUGE_PAGE_BYTES - 1);
        if (before > 0) {
            Posix.unmap(wide.asSlice(0, before));
        }
        Posix.unmap(wide.asSlice(before + whole));
        return wide.asSlice(before, bytes);
    }

    public MemorySegment segment() {
        lifetime.requireOpen();
        return segment;
    }

    /// @throws IllegalStateException while a system call uses the segment; it stays open then
    @Override
    public synchronized void close() {
        if (arena.scope().isAlive()) {
            arena.close();
        }
        if (lifetime.end()) {
            Posix.unmap(mapped);
        }
    }
}
