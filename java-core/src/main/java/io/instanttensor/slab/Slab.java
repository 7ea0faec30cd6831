package io.instanttensor.slab;

import io.instanttensor.device.ConsumerStream;
import io.instanttensor.device.CopyStream;
import io.instanttensor.device.DeviceId;
import io.instanttensor.device.DeviceMemory;
import io.instanttensor.plan.SlabLayout;
import io.instanttensor.stage.SlabRoom;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;

/// One slab of a load: filled by readers, handed out once, given back by [#close].
///
/// Closing is safe from any thread at any time and never blocks: the memory goes to the reclaimer,
/// which has it used again only after the streams it was handed to have come past this point.
public final class Slab implements SlabRoom.Target, AutoCloseable {
    private final int index;
    private final long bytes;
    private final long allocationBytes;
    private final DeviceId device;
    private final Reclaimer reclaimer;
    private final MemorySource source;
    /// The load's; null where nothing is to be filled any more: a slab that is kept should not keep the load's plan.
    private Runnable whenFilled;
    private final AtomicReference<SlabState> state = new AtomicReference<>(SlabState.PLANNED);
    private final AtomicLong bytesLeft;
    private final List<ConsumerStream> consumers = new ArrayList<>(1);
    private volatile SlabMemory memory;

    Slab(SlabLayout layout, DeviceId device, MemorySource source, Reclaimer reclaimer, Runnable whenFilled) {
        // Not the layout, and with it the catalogue of all tensors: a slab may be kept for long.
        this.index = layout.index();
        this.bytes = layout.bytes();
        this.allocationBytes = layout.allocationBytes();
        this.device = device;
        this.source = source;
        this.reclaimer = reclaimer;
        this.whenFilled = whenFilled;
        this.bytesLeft = new AtomicLong(layout.ownBytes());
    }

    /// In its load's plan.
    public int index() {
        return index;
    }

    /// What views may see of it.
    public long bytes() {
        return bytes;
    }

    /// The memory it takes: `bytes`, or all ranks' parts where ranks share it.
    public long allocationBytes() {
        return allocationBytes;
    }

    public DeviceId device() {
        return device;
    }

    /// Address of its first byte on the device; 0 where all its tensors are empty.
    public long address() {
        SlabMemory present = handedOutMemory();
        return present == null ? 0 : present.memory().address();
    }

    /// Its bytes, where the host can read them.
    public Optional<MemorySegment> hostView() {
        SlabMemory present = handedOutMemory();
        if (present == null) {
            return Optional.of(MemorySegment.NULL);
        }
        return present.memory().hostView().map(view -> view.asSlice(0, bytes));
    }

    private SlabMemory handedOutMemory() {
        if (state.get() != SlabState.HANDED_OUT) {
            throw new IllegalStateException("slab " + index + " is " + state.get() + ": expected HANDED_OUT");
        }
        return memory;
    }

    boolean hasMemory() {
        return state.get() != SlabState.PLANNED;
    }

    boolean filled() {
        return state.get() == SlabState.FILLED;
    }

    /// Starts the filling.
    ///
    /// @param given null for a slab without a byte
    /// @return false where it has been discarded before: the memory stays the caller's then
    boolean attach(SlabMemory given) {
        memory = given;
        boolean full = bytesLeft.get() == 0;
        if (full) {
            whenFilled = null;
        }
        return state.compareAndSet(SlabState.PLANNED, full ? SlabState.FILLED : SlabState.FILLING);
    }

    @Override
    public DeviceMemory memory() {
        return memory.memory();
    }

    @Override
    public void awaitLastUsers(CopyStream stream) {
        memory.awaitLastUsers(stream);
    }

    @Override
    public void awaitLastUsers() {
        memory.awaitLastUsers();
    }

    @Override
    public void queued(long bytes, CopyStream stream) {
        if (bytesLeft.addAndGet(-bytes) == 0) {
            memory.recordArrival(stream);
            fill();
        }
    }

    @Override
    public void written(long bytes) {
        if (bytesLeft.addAndGet(-bytes) == 0) {
            fill();
        }
    }

    private void fill() {
        state.set(SlabState.FILLED);
        Runnable announce = whenFilled;
        whenFilled = null;
        announce.run();
    }

    /// Hands it to the caller, whose stream waits for its copies from now on. The caller's thread has
    /// the device's scope open.
    ///
    /// @return false where it was discarded before: its load has ended
    boolean handOut(ConsumerStream stream) {
        if (!state.compareAndSet(SlabState.FILLED, SlabState.HANDED_OUT)) {
            return false;
        }
        if (memory != null) {
            source.handedOut(memory);
            memory.complete(stream);
        }
        alsoOn(stream);
        return true;
    }

    /// Lets one more stream use it: that stream waits for its copies, and the memory for that stream. Does
    /// nothing where it has been given back: who copied its tensors has no use for it any more.
    public void alsoOn(ConsumerStream stream) {
        if (state.get() == SlabState.RELEASED) {
            return;
        }
        handedOutMemory();
        if (memory != null) {
            memory.arriveOn(stream);
            synchronized (consumers) {
                consumers.add(stream);
            }
        }
    }

    /// Gives it back. What is still queued on the streams it was handed to may go on reading it.
    @Override
    public void close() {
        if (state.compareAndSet(SlabState.HANDED_OUT, SlabState.RELEASED) && memory != null) {
            reclaimer.offer(this);
        }
    }

    /// The reclaimer's half of [#close]; it has the device's scope open.
    void reclaim() {
        try {
            synchronized (consumers) {
                consumers.forEach(memory::leaveOn);
            }
        } catch (RuntimeException e) {
            lose();
            throw e;
        }
        memory.forgetFilling();
        source.giveBack(memory);
    }

    /// Where nobody can tell when its users are done. Freeing it waits for the whole device.
    void lose() {
        memory.free();
    }

    /// Frees what was never handed out. Nobody copies into it any more.
    void discard() {
        SlabState before = state.getAndUpdate(
                now -> now == SlabState.HANDED_OUT || now == SlabState.RELEASED ? now : SlabState.RELEASED);
        if ((before == SlabState.FILLING || before == SlabState.FILLED) && memory != null) {
            source.discard(memory);
        }
    }
}
