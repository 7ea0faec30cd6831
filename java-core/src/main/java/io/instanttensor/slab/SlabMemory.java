package io.instanttensor.slab;

import io.instanttensor.device.ConsumerStream;
import io.instanttensor.device.CopyStream;
import io.instanttensor.device.Device;
import io.instanttensor.device.DeviceMemory;
import io.instanttensor.device.Fence;
import io.instanttensor.stage.Cleanup;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/// Memory of a slab together with the fences around its use: behind the copies that fill it, one per
/// reader, and behind the work of those who read it. Lives on when one slab lets go and the next takes over.
final class SlabMemory {
    private final Device device;
    private final DeviceMemory memory;
    /// By reader; null until that reader copies here for the first time.
    private final Fence[] arrivals;
    /// Whether the fence has been recorded for the present filling.
    private final boolean[] arriving;
    private final List<Fence> lastUsers = new ArrayList<>();

    SlabMemory(Device device, DeviceMemory memory, int readers) {
        this.device = device;
        this.memory = memory;
        this.arrivals = new Fence[readers];
        this.arriving = new boolean[readers];
    }

    DeviceMemory memory() {
        return memory;
    }

    /// Called by each reader before its first copy of a filling; a reader touches only its own place.
    void awaitLastUsers(int reader, CopyStream stream) {
        if (!arriving[reader]) {
            lastUsers.forEach(stream::waitFor);
        }
    }

    void recordArrival(int reader, CopyStream stream) {
        if (arrivals[reader] == null) {
            arrivals[reader] = device.newFence();
        }
        stream.record(arrivals[reader]);
        arriving[reader] = true;
    }

    /// Makes a stream wait for all that has been queued into this memory. The filling is complete, so no
    /// copy will ask for the last users any more.
    void arriveOn(ConsumerStream stream) {
        forgetLastUsers();
        for (int reader = 0; reader < arrivals.length; reader++) {
            if (arriving[reader]) {
                stream.waitFor(arrivals[reader]);
            }
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
        Arrays.fill(arriving, false);
    }

    private void forgetLastUsers() {
        lastUsers.forEach(Fence::close);
        lastUsers.clear();
    }

    /// Waits for copies and users, then frees. Where the device cannot say how far it is, freeing
    /// itself waits for it; all is given back whatever fails, and the first failure is thrown.
    void free() {
        Cleanup cleanup = new Cleanup();
        for (Fence arrival : arrivals) {
            if (arrival != null) {
                cleanup.run(arrival::await);
                cleanup.run(arrival::close);
            }
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
