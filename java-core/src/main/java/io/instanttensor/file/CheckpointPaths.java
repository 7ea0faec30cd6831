package io.instanttensor.file;

import io.instanttensor.posix.Errno;
import io.instanttensor.posix.Patiently;
import java.io.IOException;
import java.nio.file.DirectoryIteratorException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/// From what the caller names (files, folders, indexes) to the files of a checkpoint. Opens none but indexes.
public final class CheckpointPaths {
    private static final String SUFFIX = ".safetensors";
    private static final String USUAL_INDEX = "model" + CheckpointIndex.SUFFIX;

    /// What is handed out, by what makes two paths equal: the same name in the same folder, by whatever way
    /// the folder was reached. A link is a file of its own, since its name is what counts.
    private final Map<Path, Path> files = new LinkedHashMap<>();
    private final Map<String, Path> fileByTensor = new HashMap<>();
    private final Set<String> claimedTwice = new HashSet<>();
    private final Map<Path, Path> realFolders = new HashMap<>();

    private CheckpointPaths() {}

    /// @param named files, folders and indexes in any order; never changed
    /// @throws FileException where one is missing or unreadable, or a folder holds nothing to load
    /// @throws MalformedIndexException where an index is none
    /// @throws IllegalArgumentException where nothing is named
    public static ResolvedPaths resolve(List<Path> named) throws IOException {
        if (named.isEmpty()) {
            throw new IllegalArgumentException(
                    "expected at least one file, folder or *" + CheckpointIndex.SUFFIX + ", found none");
        }
        CheckpointPaths found = new CheckpointPaths();
        for (Path path : named) {
            found.add(path);
        }
        List<Path> files = new ArrayList<>(found.files.values());
        files.sort(CheckpointPaths::byName);
        found.fileByTensor.keySet().removeAll(found.claimedTwice);
        return new ResolvedPaths(files, found.fileByTensor);
    }

    private static int byName(Path left, Path right) {
        int names = CodePointOrder.INSTANCE.compare(
                String.valueOf(left.getFileName()), String.valueOf(right.getFileName()));
        return names != 0 ? names : CodePointOrder.INSTANCE.compare(left.toString(), right.toString());
    }

    private void add(Path path) throws IOException {
        PathErrors.requireReadable(path, "no such file or folder");
        if (Files.isDirectory(path)) {
            addFolder(path);
        } else if (path.toString().endsWith(CheckpointIndex.SUFFIX)) {
            addIndex(path);
        } else {
            addFile(path);
        }
    }

    private void addFolder(Path folder) throws IOException {
        List<Path> indexes = visible(folder, CheckpointIndex.SUFFIX);
        Path usual = folder.resolve(USUAL_INDEX);
        if (indexes.contains(usual)) {
            addIndex(usual);
        } else if (indexes.size() == 1) {
            addIndex(indexes.getFirst());
        } else if (indexes.size() > 1) {
            throw new FileException(folder, Errno.EINVAL, "expected one index, or one called " + USUAL_INDEX
                    + ", found " + String.join(", ", indexes.stream().map(p -> p.getFileName().toString()).toList())
                    + ": name the one to load");
        } else {
            List<Path> inside = visible(folder, SUFFIX);
            if (inside.isEmpty()) {
                throw new FileException(folder, Errno.ENOENT, "the folder holds no safetensors file");
            }
            for (Path file : inside) {
                addFile(file);
            }
        }
    }

    /// The folder's own files, folders left out, whose name ends so; in order.
    private static List<Path> visible(Path folder, String suffix) throws IOException {
        List<Path> named = new ArrayList<>();
        try (DirectoryStream<Path> entries = Files.newDirectoryStream(folder)) {
            for (Path entry : entries) {
                String name = entry.getFileName().toString();
                if (name.endsWith(suffix) && !name.startsWith(".")) {
                    named.add(entry);
                }
            }
        } catch (DirectoryIteratorException e) {
            throw PathErrors.of(folder, e.getCause());
        } catch (IOException e) {
            throw PathErrors.of(folder, e);
        }
        List<Boolean> folders = new ArrayList<>();
        Patiently.each(named, Files::isDirectory, folders, "listing");
        List<Path> found = new ArrayList<>();
        for (int i = 0; i < named.size(); i++) {
            if (!folders.get(i)) {
                found.add(named.get(i));
            }
        }
        found.sort(CheckpointPaths::byName);
        return found;
    }

    private void addIndex(Path path) throws IOException {
        CheckpointIndex index = CheckpointIndex.read(path);
        Map<Path, String> firstTensor = new LinkedHashMap<>();
        index.fileByTensor().forEach((tensor, file) -> firstTensor.putIfAbsent(file, tensor));
        Patiently.each(List.copyOf(firstTensor.keySet()), listed -> {
            PathErrors.requireReadable(listed, "no such file, though " + path + " names it for tensor "
                    + firstTensor.get(listed));
            return listed;
        }, new ArrayList<>(), "looking");
        Map<Path, Path> handedOut = new HashMap<>();
        for (Path listed : firstTensor.keySet()) {
            handedOut.put(listed, addFile(listed));
        }
        for (Map.Entry<String, Path> claim : index.fileByTensor().entrySet()) {
            Path file = handedOut.get(claim.getValue());
            Path before = fileByTensor.putIfAbsent(claim.getKey(), file);
            if (before != null && !before.equals(file)) {
                // Two checkpoints loaded together. Neither index can speak for both, so neither does.
                claimedTwice.add(claim.getKey());
            }
        }
    }

    /// @return the path it is handed out under: the first that it was named by
    private Path addFile(Path file) throws FileException {
        try {
            Path whole = file.toAbsolutePath();
            Path key = whole.getParent() == null ? whole : real(whole.getParent()).resolve(whole.getFileName());
            Path before = files.putIfAbsent(key, file);
            return before == null ? file : before;
        } catch (IOException e) {
            throw PathErrors.of(file, e);
        }
    }

    /// Of a folder, and once for each: its files are many.
    private Path real(Path folder) throws IOException {
        Path known = realFolders.get(folder);
        if (known == null) {
            known = folder.toRealPath();
            realFolders.put(folder, known);
        }
        return known;
    }
}
