package io.instanttensor.device;

import java.util.List;

/// What the CUDA driver says of itself and of the GPUs that this process may see.
///
/// @param reason why none can be used; empty where one can
/// @param bindings version of JCuda, which is built for one release of CUDA
/// @param cudaVersion the newest CUDA that the driver serves, as it numbers them (13000 is 13.0); 0 where it
///     could not be asked
/// @param gpus by their ordinals
public record GpuSurvey(State state, String reason, String bindings, int cudaVersion, List<Gpu> gpus) {
    public static final long NOT_ASKED = -1;

    /// How far one gets.
    public enum State {
        /// No driver is installed.
        NO_DRIVER,
        /// There is one, and it or its bindings do not work.
        UNUSABLE,
        /// It works, and shows no GPU.
        NO_DEVICE,
        READY
    }

    /// @param name empty where the driver did not tell it; `totalBytes` is 0 then
    /// @param freeBytes or [#NOT_ASKED]
    /// @param refusal why the GPU cannot be used; empty where it can
    public record Gpu(String name, long totalBytes, long freeBytes, String refusal) {}

    public static GpuSurvey without(State state, String reason, String bindings, int cudaVersion) {
        return new GpuSurvey(state, reason, bindings, cudaVersion, List.of());
    }
}
