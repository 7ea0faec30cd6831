package io.instanttensor.device;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;
import java.util.StringTokenizer;

/// What of the host's memory is free: the kernel's account, or the tightest limit of the control
/// groups (version 2) that this process is in, whichever leaves less.
///
/// @param proc `/proc`
/// @param cgroups where the control groups are mounted
record HostMemoryInfo(Path proc, Path cgroups) {
    private static final String UNIFIED = "0::/";
    /// All such numbers fit a long.
    private static final int MAX_DIGITS = 18;

    MemoryInfo read() {
        MemoryInfo least = machine();
        Path group = ownGroup();
        while (group.startsWith(cgroups)) {
            Optional<MemoryInfo> limited = limit(group);
            if (limited.isPresent()) {
                least = new MemoryInfo(
                        Math.min(least.freeBytes(), limited.get().freeBytes()),
                        Math.min(least.totalBytes(), limited.get().totalBytes()));
            }
            group = group.getParent();
        }
        return least;
    }

    private MemoryInfo machine() {
        Path meminfo = proc.resolve("meminfo");
        try {
            Map<String, Long> kib = numbers(Files.readString(meminfo));
            if (!kib.containsKey("MemAvailable") || !kib.containsKey("MemTotal")) {
                throw new DeviceException("memory of cpu: " + meminfo + " names no MemAvailable and MemTotal");
            }
            return new MemoryInfo(kib.get("MemAvailable") * 1024, kib.get("MemTotal") * 1024);
        } catch (IOException e) {
            throw new DeviceException("memory of cpu: cannot read " + meminfo + ": " + e, e);
        }
    }

    // In a container without a namespace of its own the path names a folder that is not mounted here;
    // the walk upwards then ends at the mount, which is the container's group.
    private Path ownGroup() {
        return text(proc.resolve("self/cgroup")).stream()
                .flatMap(String::lines)
                .filter(line -> line.startsWith(UNIFIED))
                .map(line -> cgroups.resolve(line.substring(UNIFIED.length())).normalize())
                .filter(group -> group.startsWith(cgroups))
                .findFirst()
                .orElse(cgroups);
    }

    // The group's account holds the page cache too. That is given back under pressure, and a loader
    // has filled it with the very files it reads: counted as used, nothing would ever be free.
    private static Optional<MemoryInfo> limit(Path group) {
        Optional<Long> max = text(group.resolve("memory.max")).flatMap(HostMemoryInfo::number);
        Optional<Long> current = text(group.resolve("memory.current")).flatMap(HostMemoryInfo::number);
        if (max.isEmpty() || current.isEmpty()) {
            return Optional.empty();
        }
        Map<String, Long> stat = numbers(text(group.resolve("memory.stat")).orElse(""));
        long pageCacheBytes = stat.getOrDefault("inactive_file", 0L) + stat.getOrDefault("active_file", 0L);
        long usedBytes = Math.max(0, current.get() - pageCacheBytes);
        return Optional.of(new MemoryInfo(Math.max(0, max.get() - usedBytes), max.get()));
    }

    /// Absent where the file is not there or not for us: then there is no limit that we can see.
    private static Optional<String> text(Path file) {
        try {
            return Optional.of(Files.readString(file).strip());
        } catch (IOException e) {
            return Optional.empty();
        }
    }

    /// Absent for `max`, which means no limit.
    private static Optional<Long> number(String text) {
        boolean isNumber = !text.isEmpty() && text.length() <= MAX_DIGITS
                && text.chars().allMatch(c -> c >= '0' && c <= '9');
        return isNumber ? Optional.of(Long.parseLong(text)) : Optional.empty();
    }

    /// Without regular expressions: the first of a process take the JVM 10 ms.
    private static Map<String, Long> numbers(String table) {
        Map<String, Long> numbers = new HashMap<>();
        for (String line : table.lines().toList()) {
            StringTokenizer words = new StringTokenizer(line, ": \t");
            if (words.countTokens() >= 2) {
                String name = words.nextToken();
                number(words.nextToken()).ifPresent(number -> numbers.putIfAbsent(name, number));
            }
        }
        return numbers;
    }
}
