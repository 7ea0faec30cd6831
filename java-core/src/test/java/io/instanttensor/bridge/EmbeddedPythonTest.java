package io.instanttensor.bridge;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assumptions.assumeFalse;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import jep.Interpreter;
import jep.MainInterpreter;
import jep.PyConfig;
import jep.SharedInterpreter;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// The other way round: a Java program embeds Python through jep, and that Python imports the shim.
/// The engine is then the program's own, on its class path; no second JVM is started, nor could be.
///
/// The build names the Python to embed: `jep.library` is the file `libjep.so`, `python.executable` the
/// interpreter of the environment that has numpy and safetensors, `python.library` its `libpython`,
/// which is preloaded.
class EmbeddedPythonTest {
    @TempDir
    private static Path folder;

    @BeforeAll
    static void embedThePythonOfTheBuild() {
        assumeFalse(property("python.library").isEmpty(),
                "this Python has no shared library, so that no program can embed it");
        MainInterpreter.setJepLibraryPath(property("jep.library"));
        // By its program's name Python finds the environment, as it would when started from there.
        MainInterpreter.setInitParams(PyConfig.python().setProgramName(property("python.executable")));
    }

    @Test
    void pythonWithinThisProgramLoadsACheckpointThroughThisEngine() throws IOException {
        Path checkpoint = folder.resolve("two.safetensors");
        writeCheckpoint(checkpoint);
        try (Interpreter python = new SharedInterpreter()) {
            python.set("path", checkpoint.toString());
            python.set("shim", shim().toString());
            python.exec("""
                    import sys
                    sys.path.insert(0, shim)
                    from instanttensor import safe_open
                    with safe_open(path, framework="np", device="cpu") as f:
                        tensors = dict(f.tensors())
                    """);
            assertEquals(List.of("matrix", "counts"), python.getValue("list(tensors)"));
            assertEquals(
                    List.of(List.of(0.5, 1.5, 2.5), List.of(3.5, 4.5, 5.5)),
                    python.getValue("tensors['matrix'].tolist()"));
            assertEquals(List.of(7L, -8L), python.getValue("tensors['counts'].tolist()"));
            assertEquals("float32 int64", python.getValue("f\"{tensors['matrix'].dtype} {tensors['counts'].dtype}\""));
            // What Python calls is the class that this test sees.
            assertSame(PythonBridge.class, python.getValue("sys.modules['instanttensor._jvm'].engine_class()"));
        }
    }

    // Two tensors: F32 of shape (2, 3), I64 of shape (2).
    private static void writeCheckpoint(Path file) throws IOException {
        byte[] header = """
                {"matrix":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},\
                "counts":{"dtype":"I64","shape":[2],"data_offsets":[24,40]}}"""
                .getBytes(StandardCharsets.UTF_8);
        ByteBuffer content = ByteBuffer.allocate(8 + header.length + 40).order(ByteOrder.LITTLE_ENDIAN);
        content.putLong(header.length).put(header);
        for (float value = 0.5f; value < 6; value++) {
            content.putFloat(value);
        }
        content.putLong(7).putLong(-8);
        Files.write(file, content.array());
    }

    private static Path shim() {
        return Path.of(property("basedir")).resolveSibling("python-shim").resolve("src");
    }

    private static String property(String name) {
        String value = System.getProperty(name);
        assertNotNull(value, "run with -D" + name + "=...");
        return value;
    }
}
