package io.instanttensor.device.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.instanttensor.device.ChildJvm;
import io.instanttensor.device.DeviceException;
import io.instanttensor.device.StubCuda;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// How JCuda's library is found, each time in a fresh process with an empty temporary folder.
class CudaLibraryTest {
    private static final String FILE = "libJCudaDriver-12.6.0-linux-x86_64.so";

    private final String nativeDir =
            StubCuda.property(StubCuda.NATIVE_DIR, "the folder of JCuda's native library");

    @TempDir
    Path temporary;

    @TempDir
    Path empty;

    @Test
    void libraryPathSuffices() throws Exception {
        assertEquals("opened cuda:0\n", open("-Djava.library.path=" + nativeDir));
        assertNothingUnpacked();
    }

    @Test
    void bindingsAreLoadedAheadOnlyWhereTheDriverIs() throws Exception {
        assertEquals("not bound\nbound\nopened cuda:0\n", run("bind", "-Djava.library.path=" + nativeDir));
        assertNothingUnpacked();
    }

    @Test
    void ownPropertyServesAJvmWithoutALibraryPath() throws Exception {
        assertEquals("opened cuda:0\n", open("-Djava.library.path=" + empty,
                "-D" + CudaLibrary.NATIVE_DIR + "=" + nativeDir));
        assertNothingUnpacked();
    }

    @Test
    void whatLiesInTheTemporaryFolderIsNeverLoaded() throws Exception {
        Path planted = Files.writeString(temporary.resolve(FILE), "planted");
        assertEquals("JCuda's library cannot be loaded: no JCudaDriver-12.6.0-linux-x86_64 in java.library.path: "
                + empty + "; the system property instanttensor.native.dir could name its folder, and is not set\n",
                open("-Djava.library.path=" + empty));
        assertEquals("planted", Files.readString(planted));
        assertEquals("opened cuda:0\n", open("-Djava.library.path=" + empty,
                "-D" + CudaLibrary.NATIVE_DIR + "=" + nativeDir));
        assertEquals("planted", Files.readString(planted));
    }

    @Test
    void folderWithoutTheLibraryIsNamed() throws Exception {
        assertEquals("JCuda's library cannot be loaded: no JCudaDriver-12.6.0-linux-x86_64 in java.library.path: "
                + empty + "; the system property instanttensor.native.dir is " + empty + ", which holds no " + FILE
                + "\n", open("-Djava.library.path=" + empty, "-D" + CudaLibrary.NATIVE_DIR + "=" + empty));
        assertNothingUnpacked();
    }

    @Test
    void missingDriverIsSaidBeforeAnythingElse() {
        assertEquals("no NVIDIA driver: libcuda-of-nobody.so.1 could not be loaded: "
                + "Cannot open library: libcuda-of-nobody.so.1",
                assertThrows(DeviceException.class, () -> CudaLibrary.requireDriver("libcuda-of-nobody.so.1"))
                        .getMessage());
    }

    private void assertNothingUnpacked() throws IOException {
        try (Stream<Path> files = Files.list(temporary)) {
            assertEquals(List.of(), files.toList());
        }
    }

    /// @return all that it printed, to either stream
    private String open(String... options) throws Exception {
        return run("open", options);
    }

    private String run(String what, String... options) throws Exception {
        List<String> all = new ArrayList<>(List.of("-Djava.io.tmpdir=" + temporary));
        all.addAll(List.of(options));
        return ChildJvm.run(OpenCuda.class, all, what);
    }
}
