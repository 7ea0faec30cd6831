package io.instanttensor.plan;

import io.instanttensor.header.Catalogue;
import java.util.AbstractList;
import java.util.List;
import java.util.RandomAccess;

/// What a load wants, in the order in which it is packed.
///
/// A list whose elements are made when they are looked at; what planning has to know of each of 60,000 tensors is asked
/// for number by number, since no read starts before all have been packed.
public abstract class Ranges extends AbstractList<Wanted> implements RandomAccess {
    private Ranges() {}

    /// @param ranges which nobody changes any more
    public static Ranges of(List<Wanted> ranges) {
        return new Given(ranges);
    }

    /// All tensors.
    static Ranges all(Catalogue catalogue) {
        return new All(catalogue);
    }

    /// Some of them.
    ///
    /// @param tensors indexes into the catalogue
    static Ranges some(Catalogue catalogue, int[] tensors) {
        return new Some(catalogue, tensors.clone());
    }

    int file(int index) {
        return get(index).file();
    }

    long fileOffset(int index) {
        return get(index).fileOffset();
    }

    long bytes(int index) {
        return get(index).bytes();
    }

    int alignmentBytes(int index) {
        return get(index).alignmentBytes();
    }

    private static final class Given extends Ranges {
        private final List<Wanted> ranges;

        Given(List<Wanted> ranges) {
            this.ranges = ranges;
        }

        @Override
        public Wanted get(int index) {
            return ranges.get(index);
        }

        @Override
        public int size() {
            return ranges.size();
        }
    }

    /// Whole tensors. Their numbers are asked for without an object for each.
    private abstract static class Tensors extends Ranges {
        final Catalogue catalogue;

        Tensors(Catalogue catalogue) {
            this.catalogue = catalogue;
        }

        /// Its index in the catalogue.
        abstract int tensor(int index);

        private Catalogue.Located at(int index) {
            return catalogue.tensors().get(tensor(index));
        }

        @Override
        public Wanted get(int index) {
            return Wanted.whole(catalogue, tensor(index));
        }

        @Override
        int file(int index) {
            return at(index).file();
        }

        @Override
        long fileOffset(int index) {
            return at(index).entry().fileOffset();
        }

        @Override
        long bytes(int index) {
            return at(index).entry().bytes();
        }

        @Override
        int alignmentBytes(int index) {
            return at(index).entry().dtype().alignmentBytes();
        }
    }

    private static final class All extends Tensors {
        All(Catalogue catalogue) {
            super(catalogue);
        }

        @Override
        int tensor(int index) {
            return index;
        }

        @Override
        public int size() {
            return catalogue.tensors().size();
        }
    }

    private static final class Some extends Tensors {
        private final int[] chosen;

        Some(Catalogue catalogue, int[] chosen) {
            super(catalogue);
            this.chosen = chosen;
        }

        @Override
        int tensor(int index) {
            return chosen[index];
        }

        @Override
        public int size() {
            return chosen.length;
        }
    }
}
