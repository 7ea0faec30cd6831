package io.instanttensor.plan;

/// The sizes a plan is cut to.
///
/// @param slabBytes what a slab may hold, unless a single tensor is larger
/// @param chunkBytes what one read may fetch; cuts lie at multiples of it in the file, so that direct
///     I/O needs no byte twice
/// @param share which part of every slab this process reads
public record PlanLimits(long slabBytes, long chunkBytes, Share share) {
    /// On an H200's host, with as many staging buffers as fit the pinned memory that we allow ourselves:
    /// 4 MiB 49.6 GB/s, 3 MiB 48.6, 2 MiB 46.3, 1 MiB 36.5. Every copy costs the driver 2.6 µs besides its
    /// bytes, so short ones lose; long ones (8 MiB: 32 GB/s) leave too few buffers, or too many bytes for
    /// the last-level cache.
    public static final long DEFAULT_CHUNK_BYTES = 4L << 20;
    /// Below this a read costs more in calls than in bytes; it is a page, and what direct I/O wants.
    public static final long MIN_CHUNK_BYTES = 4096;
    /// Half of the pinned memory that we allow ourselves, so that two buffers can alternate.
    public static final long MAX_CHUNK_BYTES = 64L << 20;
    /// A plan is held on the heap, a hundred bytes a chunk: 4 TiB in chunks of the default size.
    static final long MAX_CHUNKS = 2L << 20;
    /// What lies between two wanted tensors is read along when it is shorter than this: a read of
    /// 64 KiB costs about as much as starting another one. Read along, not kept.
    static final long GAP_BYTES = 64L << 10;
    /// A slab's end, so that all of it can be viewed as any element type.
    static final long SLAB_PADDING_BYTES = 8;

    public PlanLimits {
        if (slabBytes < 1) {
            throw new IllegalArgumentException("slab of " + slabBytes + " bytes: expected at least 1");
        }
        if (chunkBytes < MIN_CHUNK_BYTES || chunkBytes > MAX_CHUNK_BYTES || chunkBytes % MIN_CHUNK_BYTES != 0) {
            throw new IllegalArgumentException("chunk of " + chunkBytes + " bytes: expected a multiple of "
                    + MIN_CHUNK_BYTES + " from " + MIN_CHUNK_BYTES + " to " + MAX_CHUNK_BYTES);
        }
    }

    /// One of several processes that fill the same slabs together, each a part of equal length.
    public record Share(int rank, int world) {
        public static final Share ALL = new Share(0, 1);
        /// Parts start at multiples of this, as collectives and vector loads like it.
        private static final long PART_ALIGNMENT_BYTES = 512;

        public Share {
            if (world < 1 || rank < 0 || rank >= world) {
                throw new IllegalArgumentException("rank " + rank + " of " + world);
            }
        }

        /// The length of every rank's part of a slab, the last one's padding included.
        public long partBytes(long slabBytes) {
            return world == 1 ? slabBytes : roundUp(Math.ceilDiv(slabBytes, world), PART_ALIGNMENT_BYTES);
        }
    }

    static long roundUp(long value, long multiple) {
        return Math.multiplyExact(Math.ceilDiv(value, multiple), multiple);
    }
}
