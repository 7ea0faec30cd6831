package io.instanttensor.device.cuda;

import java.lang.foreign.Arena;
import java.lang.foreign.SymbolLookup;
import java.nio.file.Path;

/// What [CudaLibraryTest] runs in a process of its own: opens a device on the stub and says how it went.
final class OpenCuda {
    private OpenCuda() {}

    public static void main(String[] stub) {
        SymbolLookup.libraryLookup(Path.of(stub[0]), Arena.global());
        String temporary = System.getProperty("java.io.tmpdir");
        try (CudaDevice device = CudaDevice.open(0)) {
            System.out.println("opened " + device.id());
        } catch (RuntimeException e) {
            System.out.println(e.getMessage());
        }
        if (!temporary.equals(System.getProperty("java.io.tmpdir"))) {
            System.out.println("java.io.tmpdir was left at " + System.getProperty("java.io.tmpdir"));
        }
    }
}
