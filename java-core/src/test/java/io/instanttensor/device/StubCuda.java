package io.instanttensor.device;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.stream.Stream;

/// The control functions of `tests/stub-cuda`. Loading it by its path makes it the process's
/// `libcuda.so.1`, whatever the machine has.
public final class StubCuda {
    public static final String LIBRARY = "stub.cuda.library";
    public static final String NATIVE_DIR = "instanttensor.native.dir";

    private static SymbolLookup symbols;

    private StubCuda() {}

    public static synchronized void load() {
        property(NATIVE_DIR, "the folder of JCuda's native library");
        if (symbols == null) {
            symbols = SymbolLookup.libraryLookup(
                    Path.of(property(LIBRARY, "the stub libcuda.so.1 built from tests/stub-cuda")), Arena.global());
        }
        reset();
    }

    public static String property(String name, String what) {
        String value = System.getProperty(name);
        if (value == null || !Files.exists(Path.of(value))) {
            throw new AssertionError("the system property " + name + " is " + value + ", expected " + what
                    + ": run `make test`, which makes it and sets the property");
        }
        return value;
    }

    public static void reset() {
        call("stub_cuda_reset");
    }

    public static void delayUs(long microseconds) {
        call("stub_cuda_delay_us", microseconds);
    }

    public static void memoryBytes(long bytes) {
        call("stub_cuda_memory_bytes", bytes);
    }

    public static void devices(int count) {
        call("stub_cuda_devices", count);
    }

    public static void fail(String function, long nth, long code) {
        try (Arena arena = Arena.ofConfined()) {
            call("stub_cuda_fail", arena.allocateFrom(function), nth, code);
        }
    }

    public static long calls(String function) {
        try (Arena arena = Arena.ofConfined()) {
            return number("stub_cuda_calls", arena.allocateFrom(function));
        }
    }

    public static long pendingFaults() {
        return number("stub_cuda_pending_faults");
    }

    public static String live() {
        return "slabs " + number("stub_cuda_live_allocations") + ", pinned " + number("stub_cuda_live_pinned")
                + ", streams " + number("stub_cuda_live_streams") + ", events " + number("stub_cuda_live_events")
                + ", contexts " + number("stub_cuda_retained_contexts") + ", bytes "
                + number("stub_cuda_used_bytes");
    }

    public static void assertNothingIsLive(String after) {
        assertEquals("slabs 0, pinned 0, streams 0, events 0, contexts 0, bytes 0", live(), after);
        assertEquals(0, currentContext(), "the context current on this thread " + after);
    }

    public static long currentContext() {
        return handle("cuCtxGetCurrent");
    }

    public static void setCurrentContext(long context) {
        assertEquals(0, driver("cuCtxSetCurrent", context));
    }

    /// A second user of the primary context, such as torch.
    public static long retainPrimaryContext(int ordinal) {
        return handle("cuDevicePrimaryCtxRetain", ordinal);
    }

    public static void releasePrimaryContext(int ordinal) {
        assertEquals(0, driver("cuDevicePrimaryCtxRelease_v2", ordinal));
    }

    public static long newStream() {
        return handle("cuStreamCreate", 0);
    }

    public static void destroyStream(long stream) {
        assertEquals(0, driver("cuStreamDestroy_v2", stream));
    }

    public static int driver(String function, Object... arguments) {
        return (int) invoke(function, JAVA_INT, arguments);
    }

    private static long handle(String function, Object... more) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(JAVA_LONG);
            assertEquals(0, driver(function, Stream.concat(Stream.of(out), Stream.of(more)).toArray()), function);
            return out.get(JAVA_LONG, 0);
        }
    }

    private static long number(String function, Object... arguments) {
        return (long) invoke(function, JAVA_LONG, arguments);
    }

    private static void call(String function, Object... arguments) {
        invoke(function, null, arguments);
    }

    private static Object invoke(String function, MemoryLayout result, Object... arguments) {
        MemoryLayout[] layouts = Stream.of(arguments).map(StubCuda::layoutOf).toArray(MemoryLayout[]::new);
        FunctionDescriptor descriptor =
                result == null ? FunctionDescriptor.ofVoid(layouts) : FunctionDescriptor.of(result, layouts);
        try {
            return Linker.nativeLinker()
                    .downcallHandle(symbols.findOrThrow(function), descriptor)
                    .invokeWithArguments(arguments);
        } catch (Throwable e) {
            throw new AssertionError(function, e);
        }
    }

    private static MemoryLayout layoutOf(Object argument) {
        return switch (argument) {
            case Integer _ -> JAVA_INT;
            case Long _ -> JAVA_LONG;
            case MemorySegment _ -> ADDRESS;
            default -> throw new IllegalArgumentException("argument " + argument);
        };
    }
}
