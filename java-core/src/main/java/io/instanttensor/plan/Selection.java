package io.instanttensor.plan;

import io.instanttensor.header.Catalogue;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.List;

/// What a load wants, and all that has to be known of it before it can be planned.
///
/// What planning has to find out of all tensors is here, so that Java's start can rehearse them: in a first load, code that the JVM has
/// not compiled yet took 10 ms for 20,000 tensors.
///
/// @param ranges in the checkpoint's order; any other order works and reads less in one go
/// @param bytes the sum over them
/// @param largestBytes of one
/// @param firstOfFiles the first of each file that they are in
public record Selection(List<Wanted> ranges, long bytes, long largestBytes, List<Wanted> firstOfFiles) {
    /// @throws ArithmeticException where all of them together have more bytes than a number can say
    public static Selection of(List<Wanted> ranges) {
        long bytes = 0;
        long largestBytes = 0;
        BitSet files = new BitSet();
        List<Wanted> firstOfFiles = new ArrayList<>();
        for (Wanted range : ranges) {
            bytes = Math.addExact(bytes, range.bytes());
            largestBytes = Math.max(largestBytes, range.bytes());
            if (!files.get(range.file())) {
                files.set(range.file());
                firstOfFiles.add(range);
            }
        }
        return new Selection(ranges, bytes, largestBytes, firstOfFiles);
    }

    /// All of a checkpoint.
    public static Selection all(Catalogue catalogue) {
        int tensors = catalogue.tensors().size();
        List<Wanted> whole = new ArrayList<>(tensors);
        for (int tensor = 0; tensor < tensors; tensor++) {
            whole.add(Wanted.whole(catalogue, tensor));
        }
        return of(whole);
    }

    /// @param tensors indexes into the catalogue
    public static Selection of(Catalogue catalogue, int[] tensors) {
        List<Wanted> whole = new ArrayList<>(tensors.length);
        for (int tensor : tensors) {
            whole.add(Wanted.whole(catalogue, tensor));
        }
        return of(whole);
    }
}
