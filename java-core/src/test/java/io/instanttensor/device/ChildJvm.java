package io.instanttensor.device;

import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/// A fresh process that runs a class of the tests beside the stub: for what happens once in a process.
public final class ChildJvm {
    private ChildJvm() {}

    /// @param options of the JVM
    /// @param words the main method's, behind the path of the stub
    /// @return all that it printed, to either stream
    public static String run(Class<?> main, List<String> options, String... words) throws Exception {
        List<String> command = new ArrayList<>(List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "--enable-native-access=ALL-UNNAMED", "-XX:-UsePerfData", "-XX:TieredStopAtLevel=1",
                "-cp", System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"))));
        command.addAll(options);
        command.add(main.getName());
        command.add(StubCuda.property(StubCuda.LIBRARY, "the stub libcuda.so.1 built from tests/stub-cuda"));
        command.addAll(List.of(words));
        ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
        builder.environment().keySet().removeIf(name -> name.startsWith("STUB_CUDA_") || name.endsWith("_OPTIONS"));
        Process process = builder.start();
        String printed = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        process.waitFor();
        return printed;
    }
}
