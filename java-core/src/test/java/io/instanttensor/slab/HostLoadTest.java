package io.instanttensor.slab;

import io.instanttensor.device.Device;
import io.instanttensor.device.HostDevice;

class HostLoadTest extends LoadContract {
    @Override
    Device openDevice() {
        return new HostDevice();
    }

    @Override
    void slowDownCopies(long microseconds) {
        // They are done when they return.
    }
}
