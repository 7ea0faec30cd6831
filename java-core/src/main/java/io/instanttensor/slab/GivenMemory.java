package io.instanttensor.slab;

import io.instanttensor.device.ConsumerStream;
import io.instanttensor.device.Device;
import io.instanttensor.device.DeviceMemory;
import io.instanttensor.plan.SlabLayout;
import java.util.List;

/// Memory that the caller has allocated and keeps: tensors that are asked for by name are loaded into
/// storage of torch's own, one slab each.
public final class GivenMemory implements MemorySource {
    private final Device device;
    private final List<DeviceMemory> targets;
    private final ConsumerStream stream;

    /// @param targets by slab
    /// @param stream what it still does with the memory comes before our copies
    public GivenMemory(Device device, List<DeviceMemory> targets, ConsumerStream stream) {
        this.device = device;
        this.targets = targets;
        this.stream = stream;
    }

    @Override
    public SlabMemory acquire(SlabLayout layout, boolean wait) {
        DeviceMemory target = targets.get(layout.index());
        if (target.bytes() < layout.allocationBytes()) {
            throw new IllegalArgumentException("target " + layout.index() + " has " + target.bytes()
                    + " bytes: expected " + layout.allocationBytes());
        }
        SlabMemory memory = new SlabMemory(device, target);
        try {
            memory.leaveOn(stream);
            return memory;
        } catch (RuntimeException e) {
            memory.free();
            throw e;
        }
    }

    @Override
    public void handedOut(SlabMemory memory) {
        // It has been the caller's all the time.
    }

    @Override
    public void giveBack(SlabMemory memory) {
        memory.free();
    }

    @Override
    public void discard(SlabMemory memory) {
        memory.free();
    }

    @Override
    public void stop() {
        // Nobody waits here.
    }

    @Override
    public void close() {
        // None of the memory is ours, but what says where it lies is.
        targets.forEach(DeviceMemory::close);
    }
}
