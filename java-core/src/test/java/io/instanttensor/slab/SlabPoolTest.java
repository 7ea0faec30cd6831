package io.instanttensor.slab;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;

import io.instanttensor.device.HostDevice;
import io.instanttensor.plan.LoadPlan;
import io.instanttensor.plan.LoadPlanner;
import io.instanttensor.plan.PlanLimits;
import io.instanttensor.plan.Ranges;
import io.instanttensor.plan.SlabBudget;
import io.instanttensor.plan.SlabLayout;
import io.instanttensor.plan.Wanted;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.Deque;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/// Which memory slabs get, where a caller gives it back, and where not.
class SlabPoolTest {
    private static final int SLAB_BYTES = 1 << 16;
    private static final int IN_BUDGET = 4;

    private final SlabLayout layout = layout();
    private final SlabPool pool =
            new SlabPool(new HostDevice(), new SlabBudget(IN_BUDGET * SLAB_BYTES, SLAB_BYTES, 2), true);

    /// Of two tensors: one alone gets storage of its own size.
    private static SlabLayout layout() {
        List<Wanted> wanted = new ArrayList<>();
        for (int i = 0; i < 2; i++) {
            wanted.add(new Wanted(i, 0, (long) i * SLAB_BYTES / 2, SLAB_BYTES / 2, 8));
        }
        PlanLimits limits = new PlanLimits(SLAB_BYTES, 4096, 4096, PlanLimits.Share.ALL);
        LoadPlan plan = LoadPlanner.plan(Ranges.of(wanted), limits);
        return plan.slabs().getFirst();
    }

    @AfterEach
    void closePool() {
        pool.close();
    }

    private SlabMemory acquire() throws InterruptedException {
        return pool.acquire(layout, false);
    }

    /// Acquires memory for as many slabs as there is room for.
    private List<SlabMemory> fill(SlabPool from, Collection<SlabMemory> filled) throws InterruptedException {
        List<SlabMemory> got = new ArrayList<>();
        for (SlabMemory next = from.acquire(layout, false); next != null; next = from.acquire(layout, false)) {
            got.add(next);
        }
        filled.addAll(got);
        return got;
    }

    @Test
    void memoryThatComesBackIsUsedAgainThoughTheBudgetWasFull() throws InterruptedException {
        List<SlabMemory> filled = new ArrayList<>();
        for (int i = 0; i < IN_BUDGET; i++) {
            filled.add(acquire());
        }
        assertNull(acquire());
        for (int round = 0; round < 20; round++) {
            SlabMemory handedOut = filled.removeFirst();
            pool.handedOut(handedOut);
            assertNull(acquire(), "its room is kept");
            pool.giveBack(handedOut);
            assertSame(handedOut, acquire());
            filled.add(handedOut);
        }
        filled.forEach(pool::discard);
    }

    @Test
    void callerWhoKeepsEverythingDoesNotStopTheLoad() throws InterruptedException {
        List<SlabMemory> filled = new ArrayList<>(List.of(acquire(), acquire(), acquire(), acquire()));
        List<SlabMemory> kept = new ArrayList<>();
        for (int slab = 0; slab < 20; slab++) {
            kept.add(filled.removeFirst());
            pool.handedOut(kept.getLast());
            fill(pool, filled);
            assertEquals(slab == 0 ? 3 : 2, filled.size(), "the room of the last two is kept");
        }
        kept.forEach(pool::giveBack);
        filled.add(acquire());
        filled.forEach(pool::discard);
    }

    /// A loop's variable holds the last tensor of a slab until the next slab has been handed out. Where three fill the
    /// budget, readers have got new memory by then.
    @Test
    void memoryIsUsedAgainWhereThreeSlabsFillTheBudgetAndEachComesBackBehindTheNext() throws InterruptedException {
        SlabPool giants = new SlabPool(new HostDevice(), new SlabBudget(3 * SLAB_BYTES, SLAB_BYTES, 2), true);
        Set<SlabMemory> made = Collections.newSetFromMap(new IdentityHashMap<>());
        Deque<SlabMemory> filled = new ArrayDeque<>();
        Deque<SlabMemory> handedOut = new ArrayDeque<>();
        for (int slab = 0; slab < 20; slab++) {
            made.addAll(fill(giants, filled));
            handedOut.add(filled.remove());
            giants.handedOut(handedOut.getLast());
            made.addAll(fill(giants, filled));
            if (handedOut.size() == 2) {
                giants.giveBack(handedOut.remove());
            }
        }
        assertEquals(4, made.size(), "nothing was freed and made again");
        assertEquals(3 * SLAB_BYTES, giants.peakOwnBytes());
        handedOut.forEach(giants::giveBack);
        filled.forEach(giants::discard);
        giants.close();
    }

    /// Ranks complete one slab ahead of their caller: when the third is handed out, the caller has the first.
    @Test
    void memoryOfSlabsThatRanksCompleteAheadIsUsedAgainToo() throws InterruptedException {
        int slabs = 5;
        SlabPool ranks = new SlabPool(
                new HostDevice(), new SlabBudget(slabs * SLAB_BYTES, SLAB_BYTES, 2).ofGathered(), true);
        Set<SlabMemory> made = Collections.newSetFromMap(new IdentityHashMap<>());
        Deque<SlabMemory> filled = new ArrayDeque<>();
        Deque<SlabMemory> handedOut = new ArrayDeque<>();
        for (int slab = 0; slab < 20; slab++) {
            made.addAll(fill(ranks, filled));
            handedOut.add(filled.remove());
            ranks.handedOut(handedOut.getLast());
            if (handedOut.size() == 3) {
                ranks.giveBack(handedOut.remove());
            }
        }
        assertEquals(slabs, made.size(), "nothing was freed and made again");
        handedOut.forEach(ranks::giveBack);
        filled.forEach(ranks::discard);
        ranks.close();
    }
}
