package io.instanttensor.device;

import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.SymbolLookup;
import java.nio.file.Path;
import java.util.Arrays;

/// The control functions of `tests/stub-cuda/stub_cufile.c`. Loading it by its path makes it the process's
/// `libcufile.so.0`, from then on.
public final class StubCufile {
    public static final String LIBRARY = "stub.cufile.library";

    private static SymbolLookup symbols;

    private StubCufile() {}

    public static void load() {
        load(Path.of(StubCuda.property(LIBRARY, "the stub libcufile.so.0 built from tests/stub-cuda")));
    }

    public static synchronized void load(Path library) {
        if (symbols == null) {
            symbols = SymbolLookup.libraryLookup(library, Arena.global());
        }
        reset();
    }

    public static void reset() {
        call("stub_cufile_reset");
    }

    /// Files that are registered.
    public static long live() {
        return number("stub_cufile_live");
    }

    public static long reads() {
        return number("stub_cufile_reads");
    }

    /// @param code an errno, or an error of libcufile, negated
    public static void failRead(long nth, long code) {
        call("stub_cufile_fail_read", nth, code);
    }

    public static void failOpen(long code) {
        call("stub_cufile_fail_open", code);
    }

    public static void failRegister(long code) {
        call("stub_cufile_fail_register", code);
    }

    public static void shortReads(long bytes) {
        call("stub_cufile_short_reads", bytes);
    }

    private static long number(String function) {
        return (long) invoke(function, FunctionDescriptor.of(JAVA_LONG));
    }

    private static void call(String function, Long... arguments) {
        MemoryLayout[] layouts = new MemoryLayout[arguments.length];
        Arrays.fill(layouts, JAVA_LONG);
        invoke(function, FunctionDescriptor.ofVoid(layouts), (Object[]) arguments);
    }

    private static Object invoke(String function, FunctionDescriptor descriptor, Object... arguments) {
        try {
            return Linker.nativeLinker().downcallHandle(symbols.findOrThrow(function), descriptor)
                    .invokeWithArguments(arguments);
        } catch (Throwable e) {
            throw new AssertionError(function, e);
        }
    }
}
