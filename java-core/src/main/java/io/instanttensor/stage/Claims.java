package io.instanttensor.stage;

import io.instanttensor.plan.Batch;
import io.instanttensor.plan.Chunk;
import io.instanttensor.plan.SlabLayout;
import io.instanttensor.read.ChunkReader;
import io.instanttensor.read.FileAccess;
import java.util.ArrayDeque;
import java.util.Collections;
import java.util.HashSet;
import java.util.Iterator;
import java.util.List;
import java.util.Optional;
import java.util.Queue;
import java.util.Set;
import java.util.function.Predicate;

/// Hands out the chunks of a plan, each to one reader, and knows the batches under way.
///
/// In the plan's order; but where the page cache holds parts of files, batches of other parts go before those, as far
/// as there is room for them: storage works while processors copy.
final class Claims {
    /// Readers that are left to what the page cache holds: two copy more than most storage brings meanwhile.
    private static final int COPYING = 2;

    private final Iterator<SlabLayout> slabs;
    private final Predicate<Chunk> directly;
    private final Optional<Predicate<Chunk>> cached;
    /// Not where all was there at opening: room for later slabs would be opened for nothing.
    private final boolean looksAhead;
    private SlabLayout slab;
    private Iterator<Batch> batches = Collections.emptyIterator();
    /// In order, of what the page cache holds: others went before.
    private final Queue<StagedBatch> passedOver = new ArrayDeque<>();
    private StagedBatch inOrder;
    private StagedBatch early;
    private int storageReads;
    private final Set<StagedBatch> underWay = new HashSet<>();

    /// A chunk for one reader, and the batch that it belongs to.
    record Claim(StagedBatch batch, Chunk chunk) {}

    /// Says whether there is room for a slab, at once.
    interface Room {
        boolean isOpen(int slab) throws InterruptedException;
    }

    /// @param files of the plan, by index
    Claims(List<SlabLayout> slabs, List<ChunkReader> files) {
        this(slabs, chunk -> files.get(chunk.file()).access().direct(),
                files.stream().noneMatch(file -> file.access().mode() == FileAccess.Mode.MIXED)
                        ? Optional.empty()
                        : Optional.of(chunk -> files.get(chunk.file()).isCached(chunk)),
                files.stream().anyMatch(file -> file.access().mode() == FileAccess.Mode.MIXED
                        && !file.access().inMemory()));
    }

    /// @param directly whether a chunk is read past the page cache, unless it is there
    /// @param cached whether the page cache holds a chunk; empty where that makes no difference
    Claims(List<SlabLayout> slabs, Predicate<Chunk> directly, Optional<Predicate<Chunk>> cached) {
        this(slabs, directly, cached, cached.isPresent());
    }

    private Claims(
            List<SlabLayout> slabs, Predicate<Chunk> directly, Optional<Predicate<Chunk>> cached, boolean looksAhead) {
        this.looksAhead = looksAhead;
        this.slabs = slabs.iterator();
        this.directly = directly;
        this.cached = cached;
    }

    /// The next chunk; null after the last.
    ///
    /// @param readers that may read at once
    synchronized Claim next(int readers, Room room) throws InterruptedException {
        if (looksAhead && storageReads < readers - COPYING && findEarly(room)) {
            return claim(early);
        }
        while (inOrder == null || !inOrder.hasNext()) {
            StagedBatch next = passedOver.isEmpty() ? cut() : passedOver.remove();
            if (next == null) {
                return early != null && early.hasNext() ? claim(early) : null;
            }
            inOrder = next;
        }
        return claim(inOrder);
    }

    private Claim claim(StagedBatch batch) {
        underWay.add(batch);
        storageReads += batch.cached() ? 0 : 1;
        return new Claim(batch, batch.next());
    }

    /// A claimed chunk has been read, or never will be.
    synchronized void over(Claim claim) {
        storageReads -= claim.batch().cached() ? 0 : 1;
    }

    /// Passes over what the page cache holds. Only where there is room: whoever waits for it in a later slab would be
    /// missing in the one before.
    private boolean findEarly(Room room) throws InterruptedException {
        while (early == null || !early.hasNext()) {
            boolean isNext = inOrder != null && inOrder.hasNext() && !inOrder.cached();
            if (isNext || !cutsMore() || !room.isOpen(slab.index())) {
                return false;
            }
            StagedBatch next = cut();
            if (next.cached()) {
                passedOver.add(next);
            } else {
                early = next;
            }
        }
        return true;
    }

    private boolean cutsMore() {
        while (!batches.hasNext()) {
            if (!slabs.hasNext()) {
                return false;
            }
            slab = slabs.next();
            batches = slab.batches();
        }
        return true;
    }

    private StagedBatch cut() {
        if (!cutsMore()) {
            return null;
        }
        Batch next = batches.next();
        boolean there = cached.isPresent() && next.chunks().stream().allMatch(cached.get());
        return new StagedBatch(next, there, !there && readsDirectly(next));
    }

    private boolean readsDirectly(Batch batch) {
        // Of every batch of every load: a stream would be most of it.
        for (Chunk chunk : batch.chunks()) {
            if (directly.test(chunk)) {
                return true;
            }
        }
        return false;
    }

    /// A batch is over.
    synchronized void done(StagedBatch over) {
        underWay.remove(over);
    }

    /// Those that were not finished.
    synchronized List<StagedBatch> underWay() {
        return List.copyOf(underWay);
    }
}
