package io.instanttensor;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.instanttensor.device.StubCuda;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
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

    private Path model() throws IOException {
        byte[] header = "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}"
                .getBytes(StandardCharsets.UTF_8);
        ByteBuffer bytes = ByteBuffer.allocate(8 + header.length + 4).order(ByteOrder.LITTLE_ENDIAN);
        bytes.putLong(header.length).put(header);
        return Files.write(folder.resolve("model.safetensors"), bytes.array());
    }

    /// @return all that it printed, to either stream
    private static String open(Path file, String ordinal) throws Exception {
        List<String> command = new ArrayList<>(List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "--enable-native-access=ALL-UNNAMED", "-XX:-UsePerfData", "-XX:TieredStopAtLevel=1",
                "-Djava.library.path="
                        + StubCuda.property(StubCuda.NATIVE_DIR, "the folder of JCuda's native library"),
                "-cp", System.getProperty("surefire.test.class.path", System.getProperty("java.class.path")),
                OpenCheckpoint.class.getName(),
                StubCuda.property(StubCuda.LIBRARY, "the stub libcuda.so.1 built from tests/stub-cuda"),
                file.toString(), ordinal));
        ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
        builder.environment().keySet().removeIf(name -> name.startsWith("STUB_CUDA_") || name.endsWith("_OPTIONS"));
        Process process = builder.start();
        String printed = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        process.waitFor();
        return printed;
    }
}
