package io.instanttensor.stage;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/// Which number of reads in flight is worth it: each is twice the one before, and is compared with it.
///
/// A measurement may be wrong by a tenth, and now and then by far: the machine was busy otherwise, or its code was
/// cold. So what is no clear win or loss is measured more often, and before a number above the first is kept, the
/// one below it is measured once more.
final class ReadRates {
    /// What twice as many have to bring. Below it, they only wait longer.
    private static final double WORTHWHILE = 1.15;
    /// So much more is no accident.
    private static final double CLEARLY = 1.4;
    /// So much is none, measured a second time.
    private static final double HARDLY = 1.08;
    /// So many measurements of both decide on the way up, and twice as many at the end of it.
    private static final int ENOUGH = 3;

    private final List<Rate> rates = new ArrayList<>();
    /// The lower one of the two that are compared.
    private int low;
    /// Whether the way up is over; then the lower one is measured at least so often.
    private boolean checking;
    private int checkedCount = 1;
    private boolean settled;
    private int next;

    /// @param first of the numbers
    /// @param most that a number may be
    ReadRates(int first, int most) {
        for (int reads = first; reads < most; reads *= 2) {
            rates.add(new Rate(reads));
        }
        rates.add(new Rate(most));
        settled = rates.size() == 1;
    }

    /// The number to measure next, or to keep.
    int next() {
        return rates.get(next).reads;
    }

    /// Whether [#next()] stays as it is.
    boolean settled() {
        return settled;
    }

    /// @param rate of the number that was to be measured, in whatever unit
    void add(double rate) {
        rates.get(next).add(rate);
        do {
            next = toMeasure();
        } while (next < 0);
    }

    /// The index of the number to measure, or to keep; negative where there are two others to compare.
    private int toMeasure() {
        Rate lower = rates.get(low);
        Rate higher = rates.get(low + 1);
        if (higher.count() == 0) {
            return low + 1;
        }
        if (lower.count() < checkedCount) {
            return low;
        }
        double gain = higher.usual() / lower.usual();
        int enough = checking ? 2 * ENOUGH : ENOUGH;
        if (gain >= CLEARLY) {
            return worthwhile();
        }
        if (gain < HARDLY && higher.count() > 1) {
            return tooMany();
        }
        if (Math.min(lower.count(), higher.count()) < enough) {
            return lower.count() <= higher.count() ? low : low + 1;
        }
        return gain >= WORTHWHILE ? worthwhile() : tooMany();
    }

    private int worthwhile() {
        if (checking) {
            settled = true;
            return low + 1;
        }
        if (low + 2 == rates.size()) {
            check(low);
        } else {
            low++;
        }
        return -1;
    }

    private int tooMany() {
        if (low == 0) {
            settled = true;
            return 0;
        }
        check(low - 1);
        return -1;
    }

    private void check(int lower) {
        checking = true;
        low = lower;
        checkedCount = rates.get(lower).count() + 1;
    }

    /// The measurements of one number.
    private static final class Rate {
        private final int reads;
        private final List<Double> ascending = new ArrayList<>();

        Rate(int reads) {
            this.reads = reads;
        }

        int count() {
            return ascending.size();
        }

        void add(double rate) {
            ascending.add(rate);
            Collections.sort(ascending);
        }

        /// The mean of the faster half: what holds reads up makes them slow, nothing makes them fast.
        double usual() {
            return ascending.subList(count() == 1 ? 0 : (count() + 1) / 2, count()).stream()
                    .mapToDouble(Double::doubleValue).average().orElseThrow();
        }
    }
}
