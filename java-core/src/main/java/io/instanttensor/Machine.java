package io.instanttensor;

import io.instanttensor.device.GpuSurvey;
import java.io.IOException;

/// What this machine has to load to.
public final class Machine {
    private Machine() {}

    /// Does what the first load on a GPU would wait for, where the process has the driver already, and is thus going
    /// to use it.
    ///
    /// @throws io.instanttensor.device.DeviceException where our library for it cannot be loaded
    public static void bindDriver() throws IOException {
        DeviceHome.bindDriver();
    }

    /// What the CUDA driver says of itself and of the GPUs.
    ///
    /// @param opened the GPU to make a context on, to see whether it can be used; -1 for none
    public static GpuSurvey gpus(int opened) {
        return DeviceHome.gpus(opened);
    }
}
