package io.instanttensor;

import io.instanttensor.device.GpuSurvey;

/// What this machine has to load to.
public final class Machine {
    private Machine() {}

    /// What the CUDA driver says of itself and of the GPUs.
    ///
    /// @param opened the GPU to make a context on, to see whether it can be used; -1 for none
    public static GpuSurvey gpus(int opened) {
        return DeviceHome.gpus(opened);
    }
}
