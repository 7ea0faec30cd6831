package io.instanttensor.header;

import java.util.ArrayList;
import java.util.BitSet;
import java.util.List;
import java.util.function.Function;

/// Of the entries with one name, the last one counts.
final class LastByName {
    private LastByName() {}

    /// @return the same list where no name occurs twice
    static <T> List<T> of(List<T> tensors, Function<T, String> name) {
        List<int[]> same = SameNames.of(tensors.size(), index -> name.apply(tensors.get(index)));
        if (same.isEmpty()) {
            return tensors;
        }
        BitSet replaced = new BitSet();
        for (int[] indexes : same) {
            for (int i = 0; i < indexes.length - 1; i++) {
                replaced.set(indexes[i]);
            }
        }
        List<T> last = new ArrayList<>(tensors.size() - replaced.cardinality());
        for (int i = replaced.nextClearBit(0); i < tensors.size(); i = replaced.nextClearBit(i + 1)) {
            last.add(tensors.get(i));
        }
        return last;
    }
}
