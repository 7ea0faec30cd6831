package io.instanttensor.device;

import io.instanttensor.posix.ErrnoException;
import io.instanttensor.posix.Posix;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/// One anonymous mapping, and its owner. The segment ends with it: whoever still holds it gets an
/// exception and not a fault, and it cannot be unmapped under a system call that is using it.
final class HostPages implements AutoCloseable {
    private final Lifetime lifetime;
    private final Arena arena = Arena.ofShared();
    private final MemorySegment mapped;
    private final MemorySegment segment;

    private HostPages(String what, MemorySegment mapped) {
        this.lifetime = new Lifetime(what);
        this.mapped = mapped;
        this.segment = mapped.reinterpret(arena, null);
    }

    /// Maps pages, which the kernel hands out zeroed when they are first touched.
    static HostPages map(String what, long bytes) throws ErrnoException {
        return new HostPages(what, Posix.mapAnonymous(bytes));
    }

    MemorySegment segment() {
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
