package io.instanttensor;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.instanttensor.device.ChildJvm;
import io.instanttensor.device.StubCuda;
import io.instanttensor.header.DType;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// What opening prepares for a load on a GPU; each time in a fresh process, since a device is kept for the life of one.
class PreparationTest {
    @TempDir
    Path folder;

    @Test
    void buffersArePinnedBeforeAnyLoad() throws Exception {
        assertEquals("opened with 1 tensors\na buffer was pinned\n", open(model(), "0"));
    }

    @Test
    void deviceThatIsNotThereIsAnErrorOfOpening() throws Exception {
        assertEquals("no such device cuda:7: this machine has 1\n", open(model(), "7"));
    }

    @Test
    void badHeaderIsToldFirst() throws Exception {
        Path broken = Files.writeString(folder.resolve("broken.safetensors"), "no header");
        assertEquals(open(broken, "-1"), open(broken, "7"));
    }

    @Test
    void hostNeedsNothing() throws Exception {
        assertEquals("opened with 1 tensors\nnothing was pinned\n", open(model(), "-1"));
    }

    private Path model() {
        return SafetensorsFiles.builder().tensor("a", DType.U8, new long[] {4}, 1).write(folder, "model.safetensors");
    }

    private static String open(Path file, String ordinal) throws Exception {
        String bindings = StubCuda.property(StubCuda.NATIVE_DIR, "the folder of JCuda's native library");
        return ChildJvm.run(
                OpenCheckpoint.class, List.of("-Djava.library.path=" + bindings), file.toString(), ordinal);
    }
}
