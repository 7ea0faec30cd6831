package io.instanttensor.slab;

import io.instanttensor.plan.SlabLayout;

/// Where the memory of a load's slabs comes from, and where it goes back to.
public interface MemorySource {
    /// Memory for a slab. Asked for in the slabs' order.
    ///
    /// @param wait whether to block until there is some
    /// @return null once the source has been stopped, or where there is none and nobody wants to wait
    SlabMemory acquire(SlabLayout layout, boolean wait) throws InterruptedException;

    /// A slab has been handed out: its memory belongs to its views until it comes back.
    void handedOut(SlabMemory memory);

    /// Memory that was handed out and that nobody views any more.
    void giveBack(SlabMemory memory);

    /// Memory that was never handed out, of a load that ended early.
    void discard(SlabMemory memory);

    /// Nobody waits here any more.
    void stop();

    /// Gives back what nobody views; what is still viewed is freed when it comes back.
    void close();
}
