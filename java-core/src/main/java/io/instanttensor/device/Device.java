package io.instanttensor.device;

/// Where slabs live. One instance per device and process, shared by all loads on it.
///
/// Every method but `id()`, `enter()` and `close()` wants a [Scope] of this device open on the calling
/// thread, and so do the methods of streams and fences; closing anything does not. All may be called
/// from any number of threads at once. What was made here may be closed after the device.
public interface Device extends AutoCloseable {
    DeviceId id();

    /// Makes the device current on the calling thread until the scope is closed, and restores what
    /// was current before: a Python thread's torch must not notice that we were there. Scopes nest.
    Scope enter();

    MemoryInfo memory();

    /// Memory for a slab, uninitialised.
    ///
    /// @throws OutOfDeviceMemoryException with what was needed and what was free
    DeviceMemory allocate(long bytes);

    /// Memory of this device that the caller has allocated and keeps: a slab of storage that is torch's.
    /// Closing it frees nothing.
    ///
    /// @param address that the caller vouches for
    DeviceMemory borrow(long address, long bytes);

    /// Host memory that copies to this device start from; page-locked where the device wants that.
    /// Aligned to 4096 bytes, so that direct I/O takes it.
    StagingMemory allocateStaging(long bytes);

    /// A queue of copies that run in order.
    CopyStream openStream();

    /// The caller's stream. It stays the caller's: closing the wrapper does nothing to it.
    ///
    /// @param handle a `CUstream` as a number; 0 is the default stream
    ConsumerStream consumerStream(long handle);

    /// A mark in a stream that others can wait for. Not recorded yet: passed.
    Fence newFence();

    /// Gives back what the device itself holds. Nothing of it may be in use any more.
    @Override
    void close();

    /// Undoes [Device#enter()] on the thread that called it.
    interface Scope extends AutoCloseable {
        @Override
        void close();
    }
}
