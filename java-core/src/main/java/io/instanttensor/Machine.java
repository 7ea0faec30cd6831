package io.instanttensor;

import io.instanttensor.device.GpuSurvey;

/// What this machine has to load to.
public final class Machine {
    private Machine() {}

    /// What the CUDA driver says of itself and of the GPUs. Takes as long as making a context on each does.
    public static GpuSurvey gpus() {
        return DeviceHome.gpus();
    }
}
