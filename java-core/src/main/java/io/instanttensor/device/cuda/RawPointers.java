package io.instanttensor.device.cuda;

import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import jcuda.NativePointerObject;
import jcuda.Pointer;
import jcuda.driver.CUdeviceptr;
import jcuda.driver.CUstream;

/// The addresses that JCuda hides in its objects, both ways. Subclasses reach most of them; a stream
/// from a number takes JCuda's private field.
final class RawPointers {
    private static final VarHandle NATIVE_POINTER = nativePointer();

    private RawPointers() {}

    /// Has the JVM link the field's access, which takes it 5 ms at the first use: all readers would wait for one.
    static void prepare() {
        stream(0);
        device(0);
    }

    /// For the driver to read from; lives as long as the segment does.
    static Pointer host(MemorySegment segment) {
        return new HostPointer(segment.address());
    }

    /// @param handle a `CUstream`; 0, 1 and 2 are the driver's default streams
    static CUstream stream(long handle) {
        CUstream stream = new CUstream();
        NATIVE_POINTER.set((NativePointerObject) stream, handle);
        return stream;
    }

    static DevicePointer device(long address) {
        DevicePointer pointer = new DevicePointer();
        NATIVE_POINTER.set((NativePointerObject) pointer, address);
        return pointer;
    }

    private static VarHandle nativePointer() {
        try {
            return MethodHandles.privateLookupIn(NativePointerObject.class, MethodHandles.lookup())
                    .findVarHandle(NativePointerObject.class, "nativePointer", long.class);
        } catch (ReflectiveOperationException e) {
            throw new LinkageError("jcuda.NativePointerObject.nativePointer is not accessible: " + e, e);
        }
    }

    /// A pointer to host memory, filled in by the driver or made from an address.
    static final class HostPointer extends Pointer {
        HostPointer() {}

        HostPointer(long address) {
            super(address);
        }

        long address() {
            return getNativePointer();
        }
    }

    /// A pointer to device memory, filled in by the driver.
    static final class DevicePointer extends CUdeviceptr {
        long address() {
            return getNativePointer();
        }
    }
}
