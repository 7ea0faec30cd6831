package io.instanttensor.slab;

import io.instanttensor.device.ConsumerStream;
import io.instanttensor.device.CopyStream;
import io.instanttensor.device.Device;
import io.instanttensor.device.DeviceMemory;
import io.instanttensor.device.Fence;
import io.instanttensor.stage.Cleanup;
import java.util.ArrayList;
import java.util.List;

/// Memory of a slab together with the fences around its use: behind the copies that fill it, and behind the
/// work of those who read it. Lives on when one slab lets go and the next takes over.
final class SlabMemory {
    private final Device device;
    private final DeviceMemory memory;
    /// Null until it is first recorded.
    private Fence arrival;
    /// Whether it has been, for the present filling.
    private boolean arrived;
    /// Whether the copies of the present filling wait for the last users.
    private boolean usersAwaited;
    private final List<Fence> lastUsers = new ArrayList<>();

    SlabMemory(Device device, DeviceMemory memory) {
        this.device = device;
        this.memory = memory;
    }

    DeviceMemory memory() {
        return memory;
    }

    /// Called before copies of a filling are queued; all of one filling go to one stream.
    void awaitLastUsers(CopyStream stream) {
        if (!usersAwaited) {
            lastUsers.forEach(stream::waitFor);
            usersAwaited = true;
        }
    }

    /// Called before anything of a filling is written by no stream.
    void awaitLastUsers() {
        for (Fence user : lastUsers) {
            user.await();
        }
    }

    /// Called when all copies of a filling have been queued.
    void recordArrival(CopyStream stream) {
        if (arrival == null) {
            arrival = device.newFence();
        }
        stream.record(arrival);
        arrived = true;
    }

    /// The filling is complete: no copy will ask for the last users any more. Where nothing was copied, the first
    /// stream that gets the memory has to wait for them instead.
    void complete(ConsumerStream stream) {
        if (!arrived) {
            lastUsers.forEach(stream::waitFor);
        }
        forgetLastUsers();
    }

    /// Makes a stream wait for all that has been queued into this memory.
    void arriveOn(ConsumerStream stream) {
        if (arrived) {
            stream.waitFor(arrival);
        }
    }

    /// Marks the end of what a stream does with this memory; the next filling waits for it.
    void leaveOn(ConsumerStream stream) {
        Fence fence = device.newFence();
        lastUsers.add(fence);
        stream.record(fence);
    }

    /// The next filling starts from nothing.
    void forgetFilling() {
        arrived = false;
        usersAwaited = false;
    }

    private void forgetLastUsers() {
        lastUsers.forEach(Fence::close);
        lastUsers.clear();
    }

    /// Waits for copies, all of which have been queued, and for users, then frees. Where the device cannot say how
    /// far it is, freeing itself waits for it; all is given back whatever fails, and the first failure is thrown.
    void free() {
        Cleanup cleanup = new Cleanup();
        if (arrival != null) {
            cleanup.run(arrival::await);
            cleanup.run(arrival::close);
        }
        for (Fence user : lastUsers) {
            cleanup.run(user::await);
            cleanup.run(user::close);
        }
        lastUsers.clear();
        cleanup.run(memory::close);
        cleanup.finish();
    }
}
