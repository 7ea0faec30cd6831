package io.instanttensor;

import io.instanttensor.device.DeviceId;
import io.instanttensor.plan.PlanLimits;
import java.util.OptionalInt;
import java.util.OptionalLong;

/// What a caller can choose about a load. [#defaults] is meant to be right.
///
/// @param bufferBytes cap on the slabs that no view refers to; empty: 3 × the largest tensor or 1 GiB,
///     whichever is more, within `maxFreeFraction`
/// @param chunkBytes of one read
/// @param readers threads that read at once; empty: as many as the machine is good for
/// @param readsInFlight how many of them at most; without `readers`, so many where they wait for storage, if there
///     is room; empty: no limit
/// @param maxFreeFraction of the device's free memory that the default for `bufferBytes` may take
/// @param share which part of every slab this process reads, where several fill the same slabs
/// @param processes of this machine that load together, this one included; they share its processors
/// @param ranks that cut their slabs alike, this one included, also where they fill others
public record LoadOptions(
        DeviceId device, OptionalLong bufferBytes, long chunkBytes, OptionalInt readers, OptionalInt readsInFlight,
        double maxFreeFraction, PlanLimits.Share share, int processes, int ranks) {
    public static final double DEFAULT_MAX_FREE_FRACTION = 0.5;

    public LoadOptions {
        requirePositive("readers", readers);
        requirePositive("reads in flight", readsInFlight);
        requirePositive("processes", OptionalInt.of(processes));
        requirePositive("ranks", OptionalInt.of(ranks));
    }

    private static void requirePositive(String what, OptionalInt number) {
        if (number.isPresent() && number.getAsInt() < 1) {
            throw new IllegalArgumentException(what + ": expected 1 or more, found " + number.getAsInt());
        }
    }

    public static LoadOptions defaults(DeviceId device) {
        return new LoadOptions(device, OptionalLong.empty(), PlanLimits.DEFAULT_CHUNK_BYTES, OptionalInt.empty(),
                OptionalInt.empty(), DEFAULT_MAX_FREE_FRACTION, PlanLimits.Share.ALL, 1, 1);
    }
}
