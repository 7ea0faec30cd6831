package io.instanttensor.device;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/// What the kernel says of this process's memory.
final class Mappings {
    private static final String FLAGS = "VmFlags:";
    private static final String NOT_FOR_CHILDREN = "dc";

    private Mappings() {}

    /// Of the mapping at an address; nothing where none is.
    static List<String> flags(long address) throws IOException {
        boolean here = false;
        for (String line : lines()) {
            if (line.matches("[0-9a-f]+-[0-9a-f]+ .*")) {
                String[] range = line.split("[- ]");
                here = Long.compareUnsigned(Long.parseUnsignedLong(range[0], 16), address) <= 0
                        && Long.compareUnsigned(address, Long.parseUnsignedLong(range[1], 16)) < 0;
            } else if (here && line.startsWith(FLAGS)) {
                return flags(line);
            }
        }
        return List.of();
    }

    /// How many mappings a forked child does not get.
    static long notForChildren() throws IOException {
        return lines().stream()
                .filter(line -> line.startsWith(FLAGS) && flags(line).contains(NOT_FOR_CHILDREN))
                .count();
    }

    private static List<String> flags(String line) {
        return List.of(line.substring(FLAGS.length()).trim().split(" "));
    }

    private static List<String> lines() throws IOException {
        return Files.readAllLines(Path.of("/proc/self/smaps"), StandardCharsets.ISO_8859_1);
    }
}
