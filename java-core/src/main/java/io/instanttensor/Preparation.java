package io.instanttensor;

import io.instanttensor.device.DeviceId;
import io.instanttensor.plan.PlanLimits;
import io.instanttensor.posix.EngineThreads;
import io.instanttensor.posix.Outcome;
import io.instanttensor.stage.StagingPool;
import java.io.IOException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;

/// What a load that is about to come wants of its device, made on a thread of its own while headers are read: opening
/// a GPU takes 20 ms, pinning the buffers as long.
final class Preparation {
    /// The kernel fills pages with zeros for all of them at once; the driver then pins one buffer after the other.
    private static final int PINNING_THREADS = 3;

    private final FutureTask<DeviceHome> device;

    private Preparation(DeviceId id) {
        this.device = new FutureTask<>(() -> DeviceHome.of(id));
    }

    /// @param load on a GPU
    /// @param fileBytes of all its files
    static Preparation start(LoadOptions load, long fileBytes) {
        Preparation preparation = new Preparation(load.device());
        EngineThreads.builder().name("instanttensor-pinning").start(() -> preparation.run(load, fileBytes));
        return preparation;
    }

    private void run(LoadOptions load, long fileBytes) {
        device.run();
        try {
            StagingPool staging = device.get().staging();
            int threads = staging.pinnedBytes() > 0 ? 1 : Math.min(PINNING_THREADS, BatchSize.buffers(load, fileBytes));
            for (int thread = 1; thread < threads; thread++) {
                EngineThreads.builder().name("instanttensor-pinning-" + thread)
                        .start(() -> pin(staging, load, fileBytes));
            }
            pin(staging, load, fileBytes);
        } catch (RuntimeException | ExecutionException | InterruptedException | OutOfMemoryError e) {
            notPinned(e);
        }
    }

    private static void pin(StagingPool staging, LoadOptions load, long fileBytes) {
        try {
            staging.pin(BatchSize.buffers(load, fileBytes), PlanLimits.bufferBytes(BatchSize.of(load, fileBytes)),
                    StagingPool.limitBytes(load.processes()));
        } catch (RuntimeException | OutOfMemoryError e) {
            notPinned(e);
        }
    }

    /// The load will meet the same, and somebody who wants to know of it.
    private static void notPinned(Throwable e) {
        System.getLogger(Preparation.class.getName()).log(System.Logger.Level.DEBUG, "not pinned", e);
    }

    /// Waits for the device, not for its buffers.
    ///
    /// @throws io.instanttensor.device.DeviceException where it cannot be opened
    void awaitDevice() throws IOException {
        Outcome.of(device, "a device was opened");
    }
}
