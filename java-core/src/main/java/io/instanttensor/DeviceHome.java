package io.instanttensor;

import io.instanttensor.device.Device;
import io.instanttensor.device.DeviceId;
import io.instanttensor.device.GpuSurvey;
import io.instanttensor.device.HostDevice;
import io.instanttensor.device.cuda.CudaDevice;
import io.instanttensor.device.cuda.CudaSurvey;
import io.instanttensor.slab.Reclaimer;
import io.instanttensor.stage.StagingPool;
import java.io.IOException;
import java.util.HashMap;
import java.util.Map;

/// A device with what all loads on it share. Made at the first use and kept for the life of the
/// process: views of slabs may be alive until its very end, and they need the context.
record DeviceHome(Device device, StagingPool staging, Reclaimer reclaimer) {
    private static final Map<DeviceId, DeviceHome> HOMES = new HashMap<>();

    /// @throws io.instanttensor.device.DeviceException where there is no such device
    static DeviceHome of(DeviceId id) {
        synchronized (HOMES) {
            DeviceHome home = HOMES.get(id);
            if (home == null) {
                home = open(id);
                HOMES.put(id, home);
            }
            return home;
        }
    }

    static void bindDriver() throws IOException {
        CudaDevice.bindDriver();
    }

    /// What the CUDA driver says of the machine; opens at most one device, and for no longer than that takes.
    static GpuSurvey gpus(int opened) {
        return CudaSurvey.take(opened);
    }

    private static DeviceHome open(DeviceId id) {
        Device device = switch (id.kind()) {
            case CPU -> new HostDevice();
            case CUDA -> CudaDevice.open(id.ordinal());
        };
        Reclaimer reclaimer = new Reclaimer(device);
        reclaimer.start();
        return new DeviceHome(device, new StagingPool(device), reclaimer);
    }
}
