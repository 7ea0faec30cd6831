package io.instanttensor.device.cuda;

import io.instanttensor.device.DeviceException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.SymbolLookup;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.stream.Stream;
import jcuda.JCudaVersion;
import jcuda.LibUtils;
import jcuda.driver.JCudaDriver;

/// Finds and loads the driver and JCuda's library, once per process.
///
/// JCuda's own loader, where `System.loadLibrary` does not find its library, takes whatever lies under a
/// fixed name in the shared temporary folder, or unpacks it there without a lock. Two ranks that start at
/// once, or anyone else who writes there, would choose what we run. So JCuda is initialised only when its
/// library is already loaded from a place of ours.
final class CudaLibrary {
    /// The folder with JCuda's library, for a JVM that was started without it on `java.library.path`.
    static final String NATIVE_DIR = "instanttensor.native.dir";

    static final String DRIVER = "libcuda.so.1";

    private static final String TEMPORARY_FOLDER = "java.io.tmpdir";
    private static boolean loaded;

    private CudaLibrary() {}

    /// Loads JCuda's library where somebody has loaded the driver already, torch for one.
    static void bindToLoadedDriver() throws IOException {
        try (Stream<String> mapped = Files.lines(Path.of("/proc/self/maps"), StandardCharsets.ISO_8859_1)) {
            if (mapped.noneMatch(line -> line.contains("/libcuda.so"))) {
                return;
            }
        }
        load();
    }

    /// @throws DeviceException that says what is missing
    static synchronized void load() {
        if (loaded) {
            return;
        }
        requireDriver(DRIVER);
        loadBindings(LibUtils.createPlatformLibraryName("JCudaDriver-" + JCudaVersion.get()));
        loaded = true;
    }

    static void requireDriver(String library) {
        try {
            SymbolLookup.libraryLookup(library, Arena.global());
        } catch (IllegalArgumentException e) {
            throw new DeviceException(
                    "no NVIDIA driver: " + library + " could not be loaded: " + e.getMessage(), e);
        }
    }

    private static void loadBindings(String name) {
        if (LibUtils.class.getClassLoader() != CudaLibrary.class.getClassLoader()) {
            throw new DeviceException("JCuda and the engine must come from the same class loader, found "
                    + LibUtils.class.getClassLoader() + " and " + CudaLibrary.class.getClassLoader());
        }
        try {
            // The same search, by the same class loader, that JCuda starts with: what it finds for us
            // it finds for JCuda.
            System.loadLibrary(name);
            initialise();
        } catch (UnsatisfiedLinkError e) {
            loadFromOwnFolder(System.mapLibraryName(name), e);
        }
    }

    // JCuda's search fails here too, and it goes on to the temporary folder. For that moment the
    // temporary folder is ours, where the library lies: it loads that file, which we have loaded
    // already, and has nothing to unpack.
    private static void loadFromOwnFolder(String fileName, UnsatisfiedLinkError notFound) {
        String folder = System.getProperty(NATIVE_DIR);
        if (folder == null) {
            throw new DeviceException("JCuda's library cannot be loaded: " + notFound.getMessage()
                    + "; the system property " + NATIVE_DIR + " could name its folder, and is not set", notFound);
        }
        Path file = Path.of(folder, fileName).toAbsolutePath();
        if (!Files.isRegularFile(file)) {
            throw new DeviceException("JCuda's library cannot be loaded: " + notFound.getMessage()
                    + "; the system property " + NATIVE_DIR + " is " + folder + ", which holds no " + fileName,
                    notFound);
        }
        String temporary = System.getProperty(TEMPORARY_FOLDER);
        try {
            System.load(file.toString());
            System.setProperty(TEMPORARY_FOLDER, file.getParent().toString());
            initialise();
        } catch (UnsatisfiedLinkError e) {
            throw new DeviceException("JCuda's library cannot be loaded: " + e.getMessage(), e);
        } finally {
            System.setProperty(TEMPORARY_FOLDER, temporary);
        }
    }

    // Result codes are ours to judge. Being the first call, this runs JCuda's static initialiser.
    private static void initialise() {
        JCudaDriver.setExceptionsEnabled(false);
        RawPointers.prepare();
    }
}
