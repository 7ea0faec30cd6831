package io.instanttensor.header;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/// All tensors of a checkpoint in their one order: by file, then offset, then name.
///
/// @param headers of the files, in the checkpoint's order
/// @param tensors what the checkpoint holds; a name may stand more than once
/// @param duplicates names that several files hold, and those files
public record Catalogue(List<SafetensorsHeader> headers, List<Located> tensors, Map<String, List<Path>> duplicates) {
    /// A tensor and the file it lies in.
    ///
    /// @param file index into [Catalogue#headers]
    public record Located(int file, TensorEntry entry) {}

    /// Puts the headers together.
    ///
    /// @param owners which file each name is to be taken from, where an index says so; names it does
    ///     not mention are taken from wherever they are
    /// @throws MisplacedTensorException where the index says that a file holds a tensor, and it does not
    public static Catalogue of(List<SafetensorsHeader> headers, Map<String, Path> owners)
            throws MisplacedTensorException {
        List<Located> tensors = new ArrayList<>();
        Map<String, Path> firstHome = new LinkedHashMap<>();
        Map<String, List<Path>> duplicates = new LinkedHashMap<>();
        int owned = 0;
        for (int file = 0; file < headers.size(); file++) {
            Path path = headers.get(file).file();
            for (TensorEntry entry : headers.get(file).tensors()) {
                Path owner = owners.get(entry.name());
                if (owner != null && !owner.equals(path)) {
                    continue;
                }
                owned += owner == null ? 0 : 1;
                tensors.add(new Located(file, entry));
                Path before = firstHome.putIfAbsent(entry.name(), path);
                if (before != null) {
                    duplicates.computeIfAbsent(entry.name(), name -> new ArrayList<>(List.of(before))).add(path);
                }
            }
        }
        if (owned < owners.size()) {
            for (Map.Entry<String, Path> owner : owners.entrySet()) {
                if (!owner.getValue().equals(firstHome.get(owner.getKey()))) {
                    throw new MisplacedTensorException(owner.getKey(), owner.getValue());
                }
            }
        }
        return new Catalogue(List.copyOf(headers), tensors, duplicates);
    }
}
