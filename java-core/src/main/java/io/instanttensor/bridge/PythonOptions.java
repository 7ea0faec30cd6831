package io.instanttensor.bridge;

import io.instanttensor.LoadOptions;
import io.instanttensor.device.DeviceId;
import io.instanttensor.plan.PlanLimits;
import java.util.OptionalInt;
import java.util.OptionalLong;

/// Options as plain numbers; 0 is "not given".
///
/// @param cudaOrdinal -1 for the host
public record PythonOptions(
        int cudaOrdinal, long bufferBytes, long chunkBytes, int readers, int readsInFlight,
        double maxFreeFraction, int rank, int world, int processes, int ranks) {
    LoadOptions toLoadOptions() {
        return new LoadOptions(
                cudaOrdinal < 0 ? DeviceId.HOST : new DeviceId(DeviceId.Kind.CUDA, cudaOrdinal),
                bufferBytes == 0 ? OptionalLong.empty() : OptionalLong.of(bufferBytes),
                chunkBytes == 0 ? PlanLimits.DEFAULT_CHUNK_BYTES : chunkBytes,
                readers == 0 ? OptionalInt.empty() : OptionalInt.of(readers),
                readsInFlight == 0 ? OptionalInt.empty() : OptionalInt.of(readsInFlight),
                maxFreeFraction == 0 ? LoadOptions.DEFAULT_MAX_FREE_FRACTION : maxFreeFraction,
                new PlanLimits.Share(rank, world), processes, ranks);
    }
}
