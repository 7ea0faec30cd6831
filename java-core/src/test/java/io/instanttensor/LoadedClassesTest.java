package io.instanttensor;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.instanttensor.device.ChildJvm;
import io.instanttensor.header.DType;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// A first load pays for each class that the JVM loads for it: those of other ways of reading are none of them.
class LoadedClassesTest {
    private static final String ROOT = "io.instanttensor.";
    private static final List<String> OTHER_WAYS = List.of(
            "cufile.CuFileDriver", "cufile.CuFileException", "cufile.CuFileHandle", "posix.FileMapping", "posix.Ring",
            "read.CuFileReads", "read.IoUringProbe", "read.MappedReads", "read.RingReads");

    @TempDir
    Path folder;

    @ParameterizedTest
    @ValueSource(strings = {"", "AIO_BUFFERED"})
    void loadByPreadLoadsNoOtherWayOfReading(String backend) throws Exception {
        Set<String> loaded = loadedBy(backend);
        assertTrue(loaded.contains(ROOT + "read.Preads"), loaded.toString());
        assertEquals(List.of(), OTHER_WAYS.stream().filter(name -> loaded.contains(ROOT + name)).toList());
    }

    @Test
    void onesThatAreAskedForAreLoaded() throws Exception {
        Set<String> loaded = loadedBy("MMAP");
        assertEquals(List.of("posix.FileMapping", "read.MappedReads"),
                OTHER_WAYS.stream().filter(name -> loaded.contains(ROOT + name)).toList());
    }

    private Set<String> loadedBy(String backend) throws Exception {
        Path path = SafetensorsFiles.builder()
                .tensor("x", DType.U8, new long[] {100_000}, 1)
                .write(folder, "model.safetensors");
        Path log = folder.resolve("classes");
        List<String> words = new ArrayList<>(List.of(path.toString()));
        if (!backend.isEmpty()) {
            words.add(backend);
        }
        assertEquals("100000\n", ChildJvm.run(
                LoadToHost.class, List.of("-Xlog:class+load:file=" + log), words.toArray(String[]::new)));
        try (Stream<String> lines = Files.lines(log)) {
            return lines.filter(line -> line.contains("] " + ROOT))
                    .map(line -> line.substring(line.indexOf(ROOT)).split(" ")[0])
                    .collect(Collectors.toSet());
        }
    }
}
