package io.instanttensor.cufile;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import io.instanttensor.posix.ErrnoException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.util.List;

/// libcufile and its driver. Opened once, and kept for the life of the process, as the GPU's context is: torch may use
/// the same one.
public final class CuFileDriver {
    private static final String LIBRARY = "libcufile.so.0";
    /// Which libcufile loads, too; where it is missing, that prints to the user's terminal.
    private static final String CUDA_LIBRARY = "libcuda.so.1";

    private static final int DRIVER_ALREADY_OPEN = 5026;
    private static final int OPAQUE_DESCRIPTOR = 1;
    private static final long DESCRIPTION_BYTES = 24;
    private static final MemoryLayout CALL_STATE = Linker.Option.captureStateLayout();
    private static final long ERRNO_OFFSET =
            CALL_STATE.byteOffset(MemoryLayout.PathElement.groupElement("errno"));

    private static CuFileDriver opened;

    private final MethodHandle register;
    private final MethodHandle deregister;
    private final MethodHandle read;

    private CuFileDriver(SymbolLookup library) {
        // CUfileError_t cuFileHandleRegister(CUfileHandle_t *fh, CUfileDescr_t *descr)
        // Its result, two ints, comes back as one long: the error of libcufile below, that of CUDA above.
        this.register = handle(library, "cuFileHandleRegister", FunctionDescriptor.of(JAVA_LONG, ADDRESS, ADDRESS));
        // void cuFileHandleDeregister(CUfileHandle_t fh)
        this.deregister = handle(library, "cuFileHandleDeregister", FunctionDescriptor.ofVoid(JAVA_LONG));
        // ssize_t cuFileRead(CUfileHandle_t fh, void *base, size_t size, off_t file_offset, off_t base_offset)
        this.read = handle(library, "cuFileRead",
                FunctionDescriptor.of(JAVA_LONG, JAVA_LONG, JAVA_LONG, JAVA_LONG, JAVA_LONG, JAVA_LONG),
                Linker.Option.captureCallState("errno"));
    }

    private static MethodHandle handle(
            SymbolLookup library, String name, FunctionDescriptor descriptor, Linker.Option... options) {
        return Linker.nativeLinker().downcallHandle(library.findOrThrow(name), descriptor, options);
    }

    /// Why it cannot be used, in words for the user; empty where it can, and is open from then on.
    public static synchronized String refusal() {
        if (opened != null) {
            return "";
        }
        for (String library : List.of(CUDA_LIBRARY, LIBRARY)) {
            try {
                SymbolLookup.libraryLookup(library, Arena.global());
            } catch (IllegalArgumentException e) {
                return library + " could not be loaded: " + e.getMessage();
            }
        }
        try {
            opened = open();
            return "";
        } catch (CuFileException e) {
            return e.getMessage();
        }
    }

    static synchronized CuFileDriver get() {
        if (opened == null) {
            throw new IllegalStateException("libcufile is not open");
        }
        return opened;
    }

    private static CuFileDriver open() throws CuFileException {
        SymbolLookup library = SymbolLookup.libraryLookup(LIBRARY, Arena.global());
        CuFileDriver driver = new CuFileDriver(library);
        try {
            // CUfileError_t cuFileDriverOpen(void)
            long result = (long) handle(library, "cuFileDriverOpen", FunctionDescriptor.of(JAVA_LONG)).invokeExact();
            if ((int) result != DRIVER_ALREADY_OPEN) {
                require(result, "cuFileDriverOpen");
            }
            return driver;
        } catch (CuFileException | RuntimeException | Error thrown) {
            throw thrown;
        } catch (Throwable checked) {
            throw new AssertionError("a downcall throws no checked exception", checked);
        }
    }

    long register(int fd) throws CuFileException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment description = arena.allocate(DESCRIPTION_BYTES, 8);
            description.set(JAVA_INT, 0, OPAQUE_DESCRIPTOR);
            description.set(JAVA_INT, 8, fd);
            MemorySegment handle = arena.allocate(JAVA_LONG);
            require((long) register.invokeExact(handle, description), "cuFileHandleRegister");
            return handle.get(JAVA_LONG, 0);
        } catch (CuFileException | RuntimeException | Error thrown) {
            throw thrown;
        } catch (Throwable checked) {
            throw new AssertionError("a downcall throws no checked exception", checked);
        }
    }

    void deregister(long handle) {
        try {
            deregister.invokeExact(handle);
        } catch (RuntimeException | Error thrown) {
            throw thrown;
        } catch (Throwable checked) {
            throw new AssertionError("a downcall throws no checked exception", checked);
        }
    }

    long read(long handle, long base, long bytes, long fileOffset, long baseOffset) throws CuFileException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment state = arena.allocate(CALL_STATE);
            long result = (long) read.invokeExact(state, handle, base, bytes, fileOffset, baseOffset);
            if (result >= 0) {
                return result;
            }
            if (result == -1) {
                throw new CuFileException(new ErrnoException("cuFileRead", state.get(JAVA_INT, ERRNO_OFFSET)));
            }
            throw new CuFileException("cuFileRead", Math.toIntExact(-result), 0);
        } catch (CuFileException | RuntimeException | Error thrown) {
            throw thrown;
        } catch (Throwable checked) {
            throw new AssertionError("a downcall throws no checked exception", checked);
        }
    }

    private static void require(long result, String call) throws CuFileException {
        if ((int) result != 0) {
            throw new CuFileException(call, (int) result, (int) (result >>> Integer.SIZE));
        }
    }
}
