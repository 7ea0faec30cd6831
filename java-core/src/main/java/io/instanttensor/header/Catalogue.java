package io.instanttensor.header;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;

/// All tensors of a checkpoint in their one order: by file, then offset, then name.
///
/// @param headers of the files, in the checkpoint's order
/// @param tensors what the checkpoint holds; a name may stand more than once
/// @param duplicates names that several files hold, and those files
/// @param totals over `tensors`
public record Catalogue(
        List<SafetensorsHeader> headers, List<Located> tensors, Map<String, List<Path>> duplicates, Totals totals) {
    /// Of 2^64: an odd number with bits all over, so that a product spreads every bit of its other factor.
    private static final long GOLDEN_RATIO = 0x9E37_79B9_7F4A_7C15L;

    /// A tensor and the file it lies in.
    ///
    /// @param file index into [Catalogue#headers]
    public record Located(int file, TensorEntry entry) {}

    /// What a load of all tensors wants to know of them before it starts.
    ///
    /// @param bytes of all together, or the largest number where they have more: files with holes may claim as much
    /// @param largestBytes of one
    /// @param firstOfFiles the first tensor of each file that has any, as indexes
    public record Totals(long bytes, long largestBytes, List<Integer> firstOfFiles) {
        private static Totals of(List<Located> tensors) {
            long bytes = 0;
            long largestBytes = 0;
            List<Integer> firstOfFiles = new ArrayList<>();
            int file = -1;
            for (int tensor = 0; tensor < tensors.size(); tensor++) {
                Located located = tensors.get(tensor);
                long size = located.entry().bytes();
                bytes = size > Long.MAX_VALUE - bytes ? Long.MAX_VALUE : bytes + size;
                largestBytes = Math.max(largestBytes, size);
                if (located.file() != file) {
                    file = located.file();
                    firstOfFiles.add(tensor);
                }
            }
            return new Totals(bytes, largestBytes, List.copyOf(firstOfFiles));
        }
    }

    /// @param tensors those of a file behind those of the files before it
    public Catalogue(List<SafetensorsHeader> headers, List<Located> tensors, Map<String, List<Path>> duplicates) {
        this(headers, tensors, duplicates, Totals.of(tensors));
    }

    /// Puts the headers together.
    ///
    /// @param owners which file each name is to be taken from, where an index says so; names it does
    ///     not mention are taken from wherever they are
    /// @throws MisplacedTensorException where the index says that a file holds a tensor, and it does not
    public static Catalogue of(List<SafetensorsHeader> headers, Map<String, Path> owners)
            throws MisplacedTensorException {
        List<Located> tensors = new ArrayList<>(headers.stream().mapToInt(header -> header.tensors().size()).sum());
        int owned = 0;
        for (int file = 0; file < headers.size(); file++) {
            Path path = headers.get(file).file();
            for (TensorEntry entry : headers.get(file).tensors()) {
                Path owner = owners.isEmpty() ? null : owners.get(entry.name());
                if (owner != null && !owner.equals(path)) {
                    continue;
                }
                owned += owner == null ? 0 : 1;
                tensors.add(new Located(file, entry));
            }
        }
        if (owned < owners.size()) {
            throw misplaced(tensors, owners);
        }
        return new Catalogue(List.copyOf(headers), tensors, duplicates(headers, tensors));
    }

    /// A number that two catalogues have in common where they hold the same tensors in the same order at the same
    /// offsets, with the same metadata; others have it by accident only. For ranks that load together.
    public long fingerprint() {
        long found = tensors.size();
        for (SafetensorsHeader header : headers) {
            found = mixed(mixed(mixed(found, header.fileBytes()), header.dataOffset()),
                    header.metadata() == null ? -1 : header.metadata().hashCode());
        }
        for (Located located : tensors) {
            TensorEntry entry = located.entry();
            found = mixed(mixed(found, located.file()), entry.name().hashCode());
            found = mixed(mixed(found, entry.dtype().ordinal()), entry.shape().hashCode());
            found = mixed(mixed(found, entry.fileOffset()), entry.bytes());
        }
        return found;
    }

    /// Of another order the outcome is another.
    private static long mixed(long found, long next) {
        long product = (found ^ next) * GOLDEN_RATIO;
        return product ^ product >>> Integer.SIZE;
    }

    private static MisplacedTensorException misplaced(List<Located> tensors, Map<String, Path> owners) {
        Set<String> found = tensors.stream().map(located -> located.entry().name()).collect(Collectors.toSet());
        return owners.entrySet().stream()
                .filter(owner -> !found.contains(owner.getKey()))
                .findFirst()
                .map(owner -> new MisplacedTensorException(owner.getKey(), owner.getValue()))
                .orElseThrow();
    }

    private static Map<String, List<Path>> duplicates(List<SafetensorsHeader> headers, List<Located> tensors) {
        Map<String, List<Path>> duplicates = new LinkedHashMap<>();
        // Within one file a name stands once.
        if (headers.size() > 1) {
            for (int[] same : SameNames.of(tensors.size(), index -> tensors.get(index).entry().name())) {
                duplicates.put(tensors.get(same[0]).entry().name(), Arrays.stream(same)
                        .mapToObj(index -> headers.get(tensors.get(index).file()).file())
                        .toList());
            }
        }
        return duplicates;
    }
}
