package io.instanttensor.plan;

import java.util.OptionalLong;

/// How much memory a load may take for slabs of its own, and how large it makes one.
///
/// @param capBytes the sum over slabs that no view refers to never exceeds this, but for a single
///     tensor that is larger
/// @param handedOut how many slabs a caller who keeps none has had handed out at a time: they come back, and
///     room is left for them
public record SlabBudget(long capBytes, long slabBytes, int handedOut) {
    /// Enough to keep the wire busy while slabs change hands.
    static final long DEFAULT_FLOOR_BYTES = 1L << 30;
    /// One tensor that arrives, one that is handed out, one on its way.
    static final int LARGEST_TENSORS = 3;
    /// Below four slabs in flight the readers stop whenever the caller does.
    static final int SLABS_IN_FLIGHT = 4;
    /// Larger slabs only make the first tensor late: 128 MiB take 2.5 ms on the wire.
    static final long MAX_SLAB_BYTES = 128L << 20;
    /// The caller's slab, and the one before, which comes back a moment after the next has been handed out.
    private static final int HANDED_OUT = 2;

    /// Of slabs that ranks fill together, each has only a part to copy, and all have to agree on every one: with
    /// 128 MiB two H200s loaded 53 GB/s, with 256 MiB 76.
    static final long MAX_GATHERED_SLAB_BYTES = 256L << 20;
    /// The caller's, the next, which is complete, the one after it, which ranks are about to gather, and two that are
    /// being filled meanwhile.
    static final int GATHERED_SLABS_IN_FLIGHT = 5;
    private static final int GATHERED_HANDED_OUT = 3;

    public SlabBudget {
        if (capBytes < 1 || slabBytes < 1 || slabBytes > capBytes) {
            throw new IllegalArgumentException("budget of " + capBytes + " bytes in slabs of " + slabBytes);
        }
    }

    /// @param requestedBytes what the caller set; empty for the default
    /// @param largestBytes of the tensors that will be loaded
    /// @param freeBytes of the device, now
    /// @param maxFreeFraction of `freeBytes` that the default may take
    public static SlabBudget of(
            OptionalLong requestedBytes, long largestBytes, long freeBytes, double maxFreeFraction) {
        if (!(maxFreeFraction > 0 && maxFreeFraction <= 1)) {
            throw new IllegalArgumentException(
                    "max_free_mem_usage " + maxFreeFraction + ": expected more than 0 and at most 1");
        }
        long cap = requestedBytes.orElseGet(() -> {
            long wish = Math.max(saturatedTriple(largestBytes), DEFAULT_FLOOR_BYTES);
            return Math.max(1, Math.min(wish, (long) (freeBytes * maxFreeFraction)));
        });
        return new SlabBudget(cap, Math.clamp(cap / SLABS_IN_FLIGHT, 1, MAX_SLAB_BYTES), HANDED_OUT);
    }

    /// The same of slabs that ranks fill together: those that have left the load count, since ranks complete a slab
    /// while the one before is with the caller.
    public SlabBudget ofGathered() {
        long slab = Math.clamp(capBytes / GATHERED_SLABS_IN_FLIGHT, 1, MAX_GATHERED_SLAB_BYTES);
        return new SlabBudget(capBytes, slab, GATHERED_HANDED_OUT);
    }

    private static long saturatedTriple(long bytes) {
        return bytes > Long.MAX_VALUE / LARGEST_TENSORS ? Long.MAX_VALUE : bytes * LARGEST_TENSORS;
    }
}
