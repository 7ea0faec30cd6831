package io.instanttensor.plan;

import io.instanttensor.header.Catalogue;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.List;

/// What a load wants, and all that has to be known of it before it can be planned.
///
/// What planning has to find out of all tensors is here, so that Java's start can rehearse it: in a first load, code that
/// the JVM has not compiled yet took 10 ms for 20,000 tensors.
///
/// @param ranges in the checkpoint's order; any other order works and reads less in one go
/// @param bytes the sum over them
/// @param largestBytes of one
/// @param firstOfFiles the first of each file that they are in
public record Selection(Ranges ranges, long bytes, long largestBytes, List<Wanted> firstOfFiles) {
    /// @throws ArithmeticException where all of them together have more bytes than a number can say
    public static Selection of(Ranges ranges) {
        long bytes = 0;
        long largestBytes = 0;
        BitSet files = new BitSet();
        List<Wanted> firstOfFiles = new ArrayList<>();
        for (int range = 0; range < ranges.size(); range++) {
            long rangeBytes = ranges.bytes(range);
            bytes = Math.addExact(bytes, rangeBytes);
            largestBytes = Math.max(largestBytes, rangeBytes);
            if (!files.get(ranges.file(range))) {
                files.set(ranges.file(range));
                firstOfFiles.add(ranges.get(range));
            }
        }
        return new Selection(ranges, bytes, largestBytes, firstOfFiles);
    }

    /// All of a checkpoint: the catalogue has been counted as it was made.
    public static Selection all(Catalogue catalogue) {
        Ranges ranges = Ranges.all(catalogue);
        Catalogue.Totals totals = catalogue.totals();
        return new Selection(ranges, totals.bytes(), totals.largestBytes(),
                totals.firstOfFiles().stream().map(ranges::get).toList());
    }

    /// @param tensors indexes into the catalogue
    public static Selection of(Catalogue catalogue, int[] tensors) {
        return of(Ranges.some(catalogue, tensors));
    }
}
