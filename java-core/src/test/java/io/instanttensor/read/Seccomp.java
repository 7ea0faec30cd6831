package io.instanttensor.read;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;
import static java.lang.foreign.ValueLayout.JAVA_SHORT;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;

/// Takes system calls from the calling thread, as containers do from their processes; until it ends.
final class Seccomp {
    // linux/prctl.h, linux/seccomp.h, linux/bpf_common.h
    private static final int PR_SET_SECCOMP = 22;
    private static final int PR_SET_NO_NEW_PRIVS = 38;
    private static final long MODE_FILTER = 2;
    private static final int RET_ERRNO = 0x00050000;
    private static final int RET_ALLOW = 0x7fff0000;
    private static final short LOAD_WORD = 0x20;
    private static final short JUMP_IF_EQUAL = 0x15;
    private static final short RETURN = 0x06;
    private static final int FILTER_BYTES = 8;

    // int prctl(int option, ...)
    private static final MethodHandle PRCTL = Linker.nativeLinker().downcallHandle(
            Linker.nativeLinker().defaultLookup().findOrThrow("prctl"),
            FunctionDescriptor.of(JAVA_INT, JAVA_INT, JAVA_LONG, JAVA_LONG, JAVA_LONG, JAVA_LONG),
            Linker.Option.firstVariadicArg(1));

    private Seccomp() {}

    /// @param number of the system call
    /// @param errno that it fails with from now on
    static void deny(int number, int errno) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment filters = arena.allocate(4 * FILTER_BYTES, 8);
            put(filters, 0, LOAD_WORD, 0, 0);
            put(filters, 1, JUMP_IF_EQUAL, 1, number);
            put(filters, 2, RETURN, 0, RET_ERRNO | errno);
            put(filters, 3, RETURN, 0, RET_ALLOW);
            MemorySegment program = arena.allocate(2 * JAVA_LONG.byteSize(), 8);
            program.set(JAVA_SHORT, 0, (short) 4);
            program.set(ADDRESS, 8, filters);
            prctl(PR_SET_NO_NEW_PRIVS, 1, 0);
            prctl(PR_SET_SECCOMP, MODE_FILTER, program.address());
        }
    }

    private static void put(MemorySegment filters, int index, short code, int otherwise, int value) {
        long at = (long) index * FILTER_BYTES;
        filters.set(JAVA_SHORT, at, code);
        filters.set(JAVA_BYTE, at + 3, (byte) otherwise);
        filters.set(JAVA_INT, at + 4, value);
    }

    private static void prctl(int option, long second, long third) {
        try {
            int rc = (int) PRCTL.invokeExact(option, second, third, 0L, 0L);
            if (rc != 0) {
                throw new AssertionError("prctl(" + option + "): " + rc);
            }
        } catch (Throwable e) {
            throw new AssertionError(e);
        }
    }
}
