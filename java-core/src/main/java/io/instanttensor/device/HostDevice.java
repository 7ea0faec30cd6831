package io.instanttensor.device;

import io.instanttensor.posix.ErrnoException;
import java.nio.file.Path;

/// The host as a device: slabs are anonymous pages, copies are done when they return.
public final class HostDevice implements Device {
    private static final int ENOMEM = 12;
    private static final Scope NOTHING_TO_UNDO = () -> {};

    private final HostMemoryInfo memoryInfo;
    private final Lifetime lifetime = new Lifetime("device cpu");
    /// What was free when it was asked last; null before.
    private volatile MemoryInfo known;

    public HostDevice() {
        this(new HostMemoryInfo(Path.of("/proc"), Path.of("/sys/fs/cgroup")));
    }

    HostDevice(HostMemoryInfo memoryInfo) {
        this.memoryInfo = memoryInfo;
    }

    @Override
    public DeviceId id() {
        return DeviceId.HOST;
    }

    @Override
    public Scope enter() {
        lifetime.requireOpen();
        return NOTHING_TO_UNDO;
    }

    @Override
    public MemoryInfo memory() {
        lifetime.requireOpen();
        return readMemory();
    }

    /// As far as it can be read. Where the process has no descriptor left for it, what was read last has to do: a load
    /// asks before it starts.
    private MemoryInfo readMemory() {
        try {
            MemoryInfo now = memoryInfo.read();
            known = now;
            return now;
        } catch (DeviceException e) {
            MemoryInfo before = known;
            if (before == null) {
                throw e;
            }
            return before;
        }
    }

    @Override
    public DeviceMemory allocate(long bytes) {
        lifetime.requireOpen();
        return HostMemory.of(map("slab of " + bytes + " bytes on cpu", bytes, false), bytes);
    }

    @Override
    public DeviceMemory borrow(long address, long bytes) {
        lifetime.requireOpen();
        return HostMemory.borrowed(address, bytes);
    }

    @Override
    public StagingMemory allocateStaging(long bytes) {
        lifetime.requireOpen();
        // Disks write to it, past the page cache: twice as fast where a read is one run of huge pages.
        return new HostStaging(map("staging buffer of " + bytes + " bytes on cpu", bytes, true));
    }

    // Linux maps more than it has and kills whoever touches it, so what is free is asked first.
    private HostPages map(String what, long bytes, boolean forDevice) {
        if (bytes < 1) {
            throw new IllegalArgumentException(what + ": expected 1 byte or more");
        }
        MemoryInfo memory = readMemory();
        if (bytes > memory.freeBytes()) {
            throw new OutOfDeviceMemoryException("cpu", bytes, memory);
        }
        try {
            return forDevice ? HostPages.mapForDevice(what, bytes) : HostPages.map(what, bytes);
        } catch (ErrnoException e) {
            if (e.errno() == ENOMEM) {
                throw new OutOfDeviceMemoryException("cpu", bytes, memory);
            }
            throw new DeviceException(what + ": " + e.getMessage(), e);
        }
    }

    @Override
    public CopyStream openStream() {
        lifetime.requireOpen();
        return new HostStream();
    }

    @Override
    public ConsumerStream consumerStream(long handle) {
        lifetime.requireOpen();
        if (handle != 0) {
            throw new IllegalArgumentException(
                    "consumer stream 0x" + Long.toHexString(handle) + " on cpu: the host has only stream 0");
        }
        return new HostConsumer();
    }

    @Override
    public Fence newFence() {
        lifetime.requireOpen();
        return new HostFence();
    }

    @Override
    public void close() {
        lifetime.end();
    }

    /// The caller works on the threads it has: there is never anything to wait for.
    private record HostConsumer() implements ConsumerStream {
        @Override
        public void record(Fence fence) {
            HostFence.requireUsable(fence);
        }

        @Override
        public void waitFor(Fence fence) {
            HostFence.requireUsable(fence);
        }
    }
}
