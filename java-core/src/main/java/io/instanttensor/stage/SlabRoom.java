package io.instanttensor.stage;

import io.instanttensor.device.CopyStream;
import io.instanttensor.device.DeviceMemory;

/// Where readers put chunks. The slab stage implements it.
public interface SlabRoom {
    /// The slab, if it has memory or can have some at once; null otherwise.
    Target tryOpen(int slab) throws InterruptedException;

    /// Blocks until the slab has memory, which can be as long as the caller takes: no reader may hold
    /// anything meanwhile that another one could need.
    ///
    /// @return null once the load has been stopped
    Target open(int slab) throws InterruptedException;

    /// A reader failed; the load is over.
    void fail(Throwable cause);

    /// The last reader has left; nothing will be written any more.
    void drained();

    /// One slab that is being filled.
    interface Target {
        DeviceMemory memory();

        /// Makes copies that `stream` queues from now on wait until the memory's last users are done.
        void awaitLastUsers(int reader, CopyStream stream);

        /// All copies of one more chunk have been queued on `stream`.
        void chunkQueued(int reader, CopyStream stream);
    }
}
