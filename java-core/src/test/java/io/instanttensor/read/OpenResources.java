package io.instanttensor.read;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.stream.Stream;

/// What this process holds of a file and of io_uring.
///
/// @param rings open
/// @param ringMappings of their memory
/// @param fileMappings of the file
record OpenResources(long rings, long ringMappings, long fileMappings) {
    private static final String RING = "anon_inode:[io_uring]";

    static OpenResources now(Path file) throws IOException {
        long rings;
        try (Stream<Path> all = Files.list(Path.of("/proc/self/fd"))) {
            rings = all.filter(fd -> target(fd).equals(RING)).count();
        }
        return new OpenResources(rings, mappings(RING), mappings(file.toString()));
    }

    private static String target(Path fd) {
        try {
            return Files.readSymbolicLink(fd).toString();
        } catch (IOException e) {
            // Closed meanwhile: the listing's own.
            return "";
        }
    }

    private static long mappings(String name) throws IOException {
        try (Stream<String> lines = Files.lines(Path.of("/proc/self/maps"), StandardCharsets.ISO_8859_1)) {
            return lines.filter(line -> line.endsWith(name)).count();
        }
    }
}
