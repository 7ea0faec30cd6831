package io.instanttensor.stage;

import io.instanttensor.device.CopyStream;
import io.instanttensor.device.DeviceMemory;

/// Where readers put chunks. The slab stage implements it.
public interface SlabRoom {
    /// Blocks until the slab has memory, which can be as long as the caller takes: no reader may hold
    /// anything meanwhile that another one could need.
    ///
    /// @return null once the load has been stopped
    Target open(int slab) throws InterruptedException;

    /// The same where it takes no waiting; null where it would.
    Target openAtOnce(int slab) throws InterruptedException;

    /// Gives memory to the slab after this one, if there is some at once: whoever calls holds up itself, and not
    /// all who come to that slab.
    void openAhead(int slab) throws InterruptedException;

    /// A reader failed; the load is over.
    void fail(Throwable cause);

    /// The last reader has left; nothing will be written any more. Where the load was stopped, what had been
    /// queued is done, too.
    void drained();

    /// One slab that is being filled.
    interface Target {
        DeviceMemory memory();

        /// Makes copies that `stream` queues from now on wait until the memory's last users are done. All
        /// copies of one filling come from one stream, and from one thread at a time.
        void awaitLastUsers(CopyStream stream);

        /// Blocks until the memory's last users are done, for what is written to it by no stream.
        void awaitLastUsers();

        /// Copies of so many more bytes have been queued on `stream`.
        void queued(long bytes, CopyStream stream);

        /// So many more bytes have been written, by no stream.
        void written(long bytes);
    }
}
