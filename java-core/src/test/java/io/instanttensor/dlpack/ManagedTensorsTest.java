package io.instanttensor.dlpack;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;
import static java.lang.foreign.ValueLayout.JAVA_SHORT;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.instanttensor.device.HostDevice;
import io.instanttensor.read.TestFolders;
import io.instanttensor.slab.LoadRig;
import io.instanttensor.slab.Reclaimer;
import io.instanttensor.slab.Slab;
import io.instanttensor.stage.StagingPool;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/// The structs as Python's libraries, and a forked child, see them: by address alone.
@Timeout(60)
class ManagedTensorsTest {
    private static final long STRUCT_BYTES = 64;
    private static final int SLOTS_IN_BLOCK = 512;

    // void (*deleter)(struct DLManagedTensor *self)
    private static final FunctionDescriptor DELETER = FunctionDescriptor.ofVoid(ADDRESS);

    private final HostDevice device = new HostDevice();
    private final StagingPool staging = new StagingPool(device);
    private final Reclaimer reclaimer = new Reclaimer(device);
    private Path folder;
    private Path path;
    private int liveBefore;

    @BeforeEach
    void open() throws IOException {
        folder = TestFolders.inMemory();
        path = folder.resolve("model");
        TestFolders.fill(path, 8192);
        reclaimer.start();
        liveBefore = ManagedTensors.live();
    }

    @AfterEach
    void close() throws IOException {
        assertEquals(liveBefore, ManagedTensors.live());
        staging.close();
        device.close();
        TestFolders.delete(folder);
    }

    @Test
    void slabIsExportedAsOneRowOfBytes() throws Exception {
        Slab slab = slabs(1, 100).getFirst();
        MemorySegment tensor = struct(ManagedTensors.export(slab));
        assertEquals(slab.address(), tensor.get(JAVA_LONG, 0));
        assertEquals(1, tensor.get(JAVA_INT, 8), "kDLCPU");
        assertEquals(0, tensor.get(JAVA_INT, 12));
        assertEquals(1, tensor.get(JAVA_INT, 16), "dimensions");
        assertEquals(1, tensor.get(JAVA_BYTE, 20), "kDLUInt");
        assertEquals(8, tensor.get(JAVA_BYTE, 21), "bits");
        assertEquals(1, tensor.get(JAVA_SHORT, 22), "lanes");
        assertEquals(100, tensor.get(ADDRESS, 24).reinterpret(8).get(JAVA_LONG, 0), "shape");
        assertEquals(0, tensor.get(JAVA_LONG, 32), "no strides");
        assertEquals(0, tensor.get(JAVA_LONG, 40), "byte offset");
        assertEquals(liveBefore + 1, ManagedTensors.live());
        delete(tensor);
    }

    @Test
    void deleterGivesTheSlabBackOnAnyThread() throws Exception {
        Slab slab = slabs(1, 100).getFirst();
        MemorySegment tensor = struct(ManagedTensors.export(slab));
        runForeign(tensor);
        assertEquals(liveBefore, ManagedTensors.live());
        assertTrue(reclaimer.awaitIdle(LoadRig.HANG_MILLIS));
        assertEquals("slab 0 is RELEASED: expected HANDED_OUT",
                assertThrows(IllegalStateException.class, slab::address).getMessage());
    }

    @Test
    void takingBackIsWhatTheDeleterDoes() throws Exception {
        Slab slab = slabs(1, 100).getFirst();
        ManagedTensors.takeBack(ManagedTensors.export(slab));
        assertEquals("slab 0 is RELEASED: expected HANDED_OUT",
                assertThrows(IllegalStateException.class, slab::address).getMessage());
    }

    @Test
    void secondDeletionDoesNothing() throws Exception {
        MemorySegment tensor = struct(ManagedTensors.export(slabs(1, 100).getFirst()));
        delete(tensor);
        delete(tensor);
        assertEquals(liveBefore, ManagedTensors.live());
    }

    @Test
    void slotsAreUsedAgain() throws Exception {
        Set<Long> addresses = new HashSet<>();
        for (int round = 0; round < 4; round++) {
            List<MemorySegment> tensors = new ArrayList<>();
            for (Slab slab : slabs(SLOTS_IN_BLOCK, 1)) {
                tensors.add(struct(ManagedTensors.export(slab)));
                addresses.add(tensors.getLast().address());
            }
            for (MemorySegment tensor : tensors) {
                delete(tensor);
            }
        }
        assertTrue(addresses.size() < 4 * SLOTS_IN_BLOCK, addresses.size() + " slots for 512 at a time");
    }

    @Test
    void tableLeadsToEverySlotAndItsDeleter() throws Exception {
        Set<Long> exported = new HashSet<>();
        for (Slab slab : slabs(3 * SLOTS_IN_BLOCK, 1)) {
            assertTrue(exported.add(ManagedTensors.export(slab)), "one slot for two slabs");
        }
        // As a forked child walks it.
        MemorySegment header = MemorySegment.ofAddress(ManagedTensors.tableAddress()).reinterpret(32);
        long blocks = header.getAtIndex(JAVA_LONG, 0);
        long slots = header.getAtIndex(JAVA_LONG, 1);
        long slotBytes = header.getAtIndex(JAVA_LONG, 2);
        long deleterOffset = header.getAtIndex(JAVA_LONG, 3);
        assertTrue(blocks >= 3, blocks + " blocks");
        MemorySegment table = MemorySegment.ofAddress(header.address()).reinterpret((4 + blocks) * 8);
        Set<Long> found = new HashSet<>();
        Set<Long> deleters = new HashSet<>();
        for (long block = 0; block < blocks; block++) {
            long start = table.getAtIndex(JAVA_LONG, 4 + block);
            for (long slot = 0; slot < slots; slot++) {
                long address = start + slot * slotBytes;
                found.add(address);
                deleters.add(MemorySegment.ofAddress(address + deleterOffset).reinterpret(8).get(JAVA_LONG, 0));
            }
        }
        assertTrue(found.containsAll(exported));
        deleters.remove(0L);
        assertEquals(1, deleters.size(), "every slot that was ever used has the one deleter");
        for (long address : exported) {
            delete(struct(address));
        }
    }

    @Test
    void slabThatWasNotHandedOutTakesNoSlot() throws Exception {
        Slab slab = slabs(1, 100).getFirst();
        slab.close();
        assertEquals("slab 0 is RELEASED: expected HANDED_OUT",
                assertThrows(IllegalStateException.class, () -> ManagedTensors.export(slab)).getMessage());
        assertNotEquals(0, ManagedTensors.tableAddress());
    }

    /// Slabs of one tensor each, handed out, of a load that is over.
    private List<Slab> slabs(int count, long bytes) throws Exception {
        long[] tensors = new long[count];
        Arrays.fill(tensors, bytes);
        List<Slab> slabs = new ArrayList<>();
        try (LoadRig load = LoadRig.Setup.of(device, staging, reclaimer, 1).load(path, tensors)) {
            for (Slab slab = load.take(); slab != null; slab = load.take()) {
                slabs.add(slab);
            }
        }
        assertEquals(count, slabs.size());
        return slabs;
    }

    private static MemorySegment struct(long address) {
        return MemorySegment.ofAddress(address).reinterpret(STRUCT_BYTES);
    }

    /// Calls it as C does.
    private static void delete(MemorySegment tensor) {
        try {
            Linker.nativeLinker().downcallHandle(tensor.get(ADDRESS, 56), DELETER).invokeExact(tensor);
        } catch (Throwable e) {
            throw new AssertionError(e);
        }
    }

    /// Calls it on a thread that Java has not made and does not know.
    private static void runForeign(MemorySegment tensor) {
        Linker linker = Linker.nativeLinker();
        // int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *), void *arg)
        MethodHandle create = linker.downcallHandle(linker.defaultLookup().findOrThrow("pthread_create"),
                FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, ADDRESS, ADDRESS));
        // int pthread_join(pthread_t thread, void **value)
        MethodHandle join = linker.downcallHandle(linker.defaultLookup().findOrThrow("pthread_join"),
                FunctionDescriptor.of(JAVA_INT, JAVA_LONG, ADDRESS));
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment thread = arena.allocate(JAVA_LONG);
            // What the deleter leaves as a return value, which it has not, is looked at by nobody.
            int created = (int) create.invokeExact(thread, MemorySegment.NULL, tensor.get(ADDRESS, 56), tensor);
            assertEquals(0, created);
            int joined = (int) join.invokeExact(thread.get(JAVA_LONG, 0), MemorySegment.NULL);
            assertEquals(0, joined);
        } catch (Throwable e) {
            throw new AssertionError(e);
        }
    }
}
