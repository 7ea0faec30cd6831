package io.instanttensor.header;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.IntFunction;

/// Names that occur more than once. Sorting hashes finds that there are none such in half the time of a
/// hash map, and without a node for each of 91,000 names.
final class SameNames {
    private SameNames() {}

    /// @param name of each index below `count`
    /// @return the indexes of each such name, ascending; by the second of them, as a reader would notice
    static List<int[]> of(int count, IntFunction<String> name) {
        long[] hashThenIndex = new long[count];
        for (int i = 0; i < count; i++) {
            hashThenIndex[i] = (long) name.apply(i).hashCode() << Integer.SIZE | i;
        }
        Arrays.sort(hashThenIndex);
        List<int[]> found = new ArrayList<>();
        for (int from = 0, to; from < count; from = to) {
            to = from + 1;
            while (to < count && hash(hashThenIndex[to]) == hash(hashThenIndex[from])) {
                to++;
            }
            if (to - from > 1) {
                addSame(name, Arrays.copyOfRange(hashThenIndex, from, to), found);
            }
        }
        found.sort((left, right) -> Integer.compare(left[1], right[1]));
        return found;
    }

    /// A map, not every pair: a file can be made whose names all have one hash.
    private static void addSame(IntFunction<String> name, long[] sameHash, List<int[]> found) {
        Map<String, List<Integer>> byName = new HashMap<>();
        for (long key : sameHash) {
            int index = Math.toIntExact(key & 0xFFFF_FFFFL);
            byName.computeIfAbsent(name.apply(index), unused -> new ArrayList<>()).add(index);
        }
        for (List<Integer> indexes : byName.values()) {
            if (indexes.size() > 1) {
                found.add(indexes.stream().mapToInt(Integer::intValue).toArray());
            }
        }
    }

    private static long hash(long key) {
        return key >> Integer.SIZE;
    }
}
