package io.instanttensor.plan;

/// The sizes a plan is cut to.
///
/// @param slabBytes what a slab may hold, unless a single tensor is larger
/// @param chunkBytes what one read may fetch; cuts lie at multiples of it in the file, so that direct
///     I/O needs no byte twice
/// @param batchBytes what is read into one staging buffer, and copied at once; the chunk's size or more
/// @param share which part of every slab this process reads
public record PlanLimits(long slabBytes, long chunkBytes, long batchBytes, Share share) {
    /// A quarter of a batch: fourteen readers fill three or four batches at a time, and the rest of the
    /// buffers wait for the wire, or are on it.
    public static final long DEFAULT_CHUNK_BYTES = 2L << 20;
    /// Every copy costs an H200's driver 2.6 µs besides its bytes: copies of 2 MiB move 51.4 GB/s, of 4 MiB
    /// 53.3, of 8 MiB 54.2, of 16 MiB 54.9.
    public static final long DEFAULT_BATCH_BYTES = 8L << 20;
    /// Below this a read costs more in calls than in bytes; it is a page, and what direct I/O wants.
    public static final long MIN_CHUNK_BYTES = 4096;
    /// Of the 98 MiB of pinned memory that we allow ourselves.
    public static final long MAX_CHUNK_BYTES = 64L << 20;
    /// What lies between two wanted tensors is read along when it is shorter than this: a read of
    /// 64 KiB costs about as much as starting another one. Read along, not kept.
    static final long GAP_BYTES = 64L << 10;
    /// In a staging buffer, chunks that are no neighbours in their file begin and end in units of their own:
    /// the largest that direct I/O may ask for.
    public static final long STAGING_UNIT_BYTES = 64L << 10;
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
        if (batchBytes < chunkBytes) {
            throw new IllegalArgumentException("batch of " + batchBytes + " bytes: expected no less than a chunk's "
                    + chunkBytes);
        }
    }

    /// What a staging buffer takes: a batch, and at both ends what a direct read is widened by.
    public static long bufferBytes(long batchBytes) {
        return batchBytes + 2 * STAGING_UNIT_BYTES;
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

    /// Rounds up to multiples of a power of two, without a division: this is asked for every tensor.
    static long roundUp(long value, long powerOfTwo) {
        return Math.addExact(value, powerOfTwo - 1) & -powerOfTwo;
    }
}
