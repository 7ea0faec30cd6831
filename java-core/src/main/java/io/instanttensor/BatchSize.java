package io.instanttensor;

import io.instanttensor.device.DeviceId;
import io.instanttensor.plan.PlanLimits;

/// How much of a load is staged in one buffer and copied at once.
final class BatchSize {
    private BatchSize() {}

    /// @param wantedBytes of the load
    static long of(LoadOptions options, long wantedBytes) {
        // On the host a copy is a processor's work, and each reader does its own. What is small need not wait
        // until large buffers are pinned: 8 MiB take 3 ms.
        boolean single = options.device().kind() == DeviceId.Kind.CPU || wantedBytes <= options.chunkBytes();
        return single ? options.chunkBytes() : Math.max(options.chunkBytes(), PlanLimits.DEFAULT_BATCH_BYTES);
    }

    /// How many of these buffers so many bytes fill; the pool has a limit of its own.
    static int buffers(LoadOptions options, long bytes) {
        return Math.toIntExact(Math.ceilDiv(bytes, of(options, bytes)));
    }
}
