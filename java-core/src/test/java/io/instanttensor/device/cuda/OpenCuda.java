package io.instanttensor.device.cuda;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.SymbolLookup;
import java.nio.file.Files;
import java.nio.file.Path;

/// What [CudaLibraryTest] runs in a process of its own: opens a device on the stub and says how it went; "bind" also
/// binds to the driver, before and after somebody has loaded it.
final class OpenCuda {
    private OpenCuda() {}

    public static void main(String[] stub) throws IOException {
        boolean bind = stub.length > 1 && stub[1].equals("bind");
        if (bind) {
            bind();
        }
        SymbolLookup.libraryLookup(Path.of(stub[0]), Arena.global());
        if (bind) {
            bind();
        }
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

    private static void bind() throws IOException {
        CudaDevice.bindDriver();
        boolean bound = Files.readString(Path.of("/proc/self/maps")).contains("libJCudaDriver");
        System.out.println(bound ? "bound" : "not bound");
    }
}
