package io.instanttensor.dlpack;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import io.instanttensor.slab.Slab;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;

/// The `DLManagedTensor` structs of all slabs that Python holds, in one table of native memory.
///
/// A table, because a forked child has to find them: there the JVM's threads do not exist, and a
/// deleter that called into it would hang. The child overwrites every deleter with null (dlpack.h
/// allows that) by walking the table, without any help from Java.
///
/// ```
/// table:   int64 blocks; int64 slots in a block; int64 bytes of a slot; int64 offset of the deleter;
///          then the blocks' addresses
/// slot:    DLManagedTensor { void *data; int32 device_type, device_id; int32 ndim;
///                            uint8 code, bits; uint16 lanes; int64 *shape, *strides; uint64 byte_offset;
///                            void *manager_ctx; void (*deleter)(DLManagedTensor *) };
///          then the one-element shape
/// ```
///
/// A slab goes out as one row of bytes; its tensors are views that Python makes.
public final class ManagedTensors {
    private static final int HEADER_WORDS = 4;
    private static final int MAX_BLOCKS = 1 << 14;
    private static final int SLOTS_IN_BLOCK = 512;
    private static final long SLOT_BYTES = 128;
    private static final long SHAPE_OFFSET = 64;
    private static final long DELETER_OFFSET = 56;
    private static final long CONTEXT_OFFSET = 48;
    /// A DLDataType: code 1 (unsigned), 8 bits, 1 lane.
    private static final int DL_UINT8 = 1 | 8 << 8 | 1 << 16;

    /// For the life of the process: a view can outlive everything else of ours.
    private static final Arena ARENA = Arena.global();
    private static final MemorySegment TABLE = ARENA.allocate((HEADER_WORDS + MAX_BLOCKS) * JAVA_LONG.byteSize(), 64);
    private static final List<Slab> HOLDERS = new ArrayList<>();
    private static final List<MemorySegment> BLOCKS = new ArrayList<>();
    private static final Deque<Integer> FREE_SLOTS = new ArrayDeque<>();

    static {
        long[] header = {0, SLOTS_IN_BLOCK, SLOT_BYTES, DELETER_OFFSET};
        MemorySegment.copy(header, 0, TABLE, JAVA_LONG, 0, HEADER_WORDS);
    }

    /// Apart from the table, which is asked for at the start: the first upcall of a process takes the JVM 50 ms
    /// to build.
    private static final class Deleter {
        static final MemorySegment STUB = stub();

        private static MemorySegment stub() {
            try {
                return Linker.nativeLinker().upcallStub(
                        MethodHandles.lookup().findStatic(ManagedTensors.class, "release",
                                MethodType.methodType(void.class, MemorySegment.class)),
                        FunctionDescriptor.ofVoid(ADDRESS), ARENA);
            } catch (ReflectiveOperationException e) {
                throw new AssertionError("no release(MemorySegment)", e);
            }
        }
    }

    private ManagedTensors() {}

    /// Builds what the first export needs, on a thread that has time.
    public static void prepare() {
        // The first number that is read from memory of ours has the JVM build code for 6 ms, another thread's then.
        if (TABLE.get(JAVA_LONG, 0) < 0 || Deleter.STUB.address() == 0) {
            throw new AssertionError("no deleter");
        }
    }

    /// Where the table lies, for the forked child's eyes.
    public static long tableAddress() {
        return TABLE.address();
    }

    /// Exports a slab that was handed out. From here on it belongs to whoever calls the deleter.
    ///
    /// @return the address of its DLManagedTensor
    public static long export(Slab slab) {
        long address = slab.address();
        int slot = claim(slab);
        MemorySegment tensor = at(slot);
        // At once: every single access to such memory is a call, and every further kind of value that the JVM has to
        // write takes it 2 to 5 ms to link.
        long[] words = {
            address,
            Integer.toUnsignedLong(slab.device().kind().dlpackType()) | (long) slab.device().ordinal() << Integer.SIZE,
            1 | (long) DL_UINT8 << Integer.SIZE,
            tensor.address() + SHAPE_OFFSET, 0, 0,
            slot, Deleter.STUB.address(),
            // With what fills up the parts of several ranks: their collective works on equal parts.
            slab.allocationBytes(),
        };
        MemorySegment.copy(words, 0, tensor, JAVA_LONG, 0, words.length);
        return tensor.address();
    }

    /// Takes an exported slab back, as its deleter does.
    public static void takeBack(long managedTensor) {
        release(MemorySegment.ofAddress(managedTensor));
    }

    /// How many slabs Python holds at the moment.
    public static int live() {
        synchronized (HOLDERS) {
            return HOLDERS.size() - FREE_SLOTS.size();
        }
    }

    private static int claim(Slab slab) {
        synchronized (HOLDERS) {
            Integer free = FREE_SLOTS.poll();
            if (free != null) {
                HOLDERS.set(free, slab);
                return free;
            }
            if (HOLDERS.size() == BLOCKS.size() * SLOTS_IN_BLOCK) {
                addBlock();
            }
            HOLDERS.add(slab);
            return HOLDERS.size() - 1;
        }
    }

    private static void addBlock() {
        if (BLOCKS.size() == MAX_BLOCKS) {
            throw new IllegalStateException(
                    "Python holds " + HOLDERS.size() + " slabs at once: expected at most that many");
        }
        MemorySegment block = ARENA.allocate(SLOTS_IN_BLOCK * SLOT_BYTES, 64);
        BLOCKS.add(block);
        // The address first, then the count: the fork may come in between.
        TABLE.setAtIndex(JAVA_LONG, HEADER_WORDS + BLOCKS.size() - 1, block.address());
        TABLE.setAtIndex(JAVA_LONG, 0, BLOCKS.size());
    }

    private static MemorySegment at(int slot) {
        synchronized (HOLDERS) {
            return BLOCKS.get(slot / SLOTS_IN_BLOCK).asSlice(slot % SLOTS_IN_BLOCK * SLOT_BYTES, SLOT_BYTES);
        }
    }

    /// The deleter: on any thread, mostly with the interpreter's lock held. It must neither wait nor throw.
    private static void release(MemorySegment tensor) {
        try {
            int slot = Math.toIntExact(tensor.reinterpret(SLOT_BYTES).get(JAVA_LONG, CONTEXT_OFFSET));
            Slab slab;
            synchronized (HOLDERS) {
                slab = HOLDERS.get(slot);
                HOLDERS.set(slot, null);
                if (slab != null) {
                    FREE_SLOTS.add(slot);
                }
            }
            if (slab != null) {
                slab.close();
            }
        } catch (Throwable e) {
            // An exception that leaves an upcall ends the process; a slab that is lost only costs memory.
            System.getLogger(ManagedTensors.class.getName()).log(System.Logger.Level.ERROR, "a slab was lost", e);
        }
    }
}
