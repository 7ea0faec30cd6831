package io.instanttensor.plan;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.OptionalLong;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class SlabBudgetTest {
    private static final long MIB = 1 << 20;

    @ParameterizedTest(name = "{0} asked for, largest {1}, free {2}, fraction {3}: cap {4}, slab {5}")
    @CsvSource({
        // What the caller sets is taken as it is.
        "1, 1000, 0, 0.5, 1, 1",
        "3, 1000, 0, 0.5, 3, 1",
        "1048576, 1000, 0, 0.5, 1048576, 262144",
        "9223372036854775807, 1000, 0, 0.5, 9223372036854775807, 134217728",
        // The floor, and three times the largest tensor.
        ", 0, 1099511627776, 0.5, 1073741824, 134217728",
        ", 357913941, 1099511627776, 0.5, 1073741824, 134217728",
        ", 357913942, 1099511627776, 0.5, 1073741826, 134217728",
        ", 9223372036854775807, 9223372036854775807, 1, 9223372036854775807, 134217728",
        // Never more than the fraction of what is free; never nothing.
        ", 0, 1000000, 0.5, 500000, 125000",
        ", 1000000000, 1000000, 1, 1000000, 250000",
        ", 0, 0, 0.5, 1, 1",
    })
    void capAndSlab(Long requested, long largest, long free, double fraction, long cap, long slab) {
        OptionalLong asked = requested == null ? OptionalLong.empty() : OptionalLong.of(requested);
        assertEquals(new SlabBudget(cap, slab, 2), SlabBudget.of(asked, largest, free, fraction));
    }

    @ParameterizedTest(name = "cap {0}: slab {1}")
    @CsvSource({"1073741824, 214748364", "10, 2", "4, 1", "1, 1", "1099511627776, 268435456"})
    void gatheredSlabsAreAFifthOfTheCap(long cap, long slab) {
        assertEquals(new SlabBudget(cap, slab, 3), new SlabBudget(cap, 1, 2).ofGathered());
    }

    @ParameterizedTest
    @ValueSource(doubles = {0, -0.5, 1.0000001, Double.NaN})
    void fractionOutOfRangeIsRefused(double fraction) {
        assertEquals("max_free_mem_usage " + fraction + ": expected more than 0 and at most 1",
                assertThrows(IllegalArgumentException.class,
                        () -> SlabBudget.of(OptionalLong.empty(), 0, MIB, fraction)).getMessage());
    }

    @Test
    void budgetsThatCannotBeAreRefused() {
        assertEquals("budget of 0 bytes in slabs of 1", assertThrows(IllegalArgumentException.class,
                () -> SlabBudget.of(OptionalLong.of(0), 0, MIB, 0.5)).getMessage());
        assertEquals("budget of 4 bytes in slabs of 5",
                assertThrows(IllegalArgumentException.class, () -> new SlabBudget(4, 5, 2)).getMessage());
        assertEquals("budget of 4 bytes in slabs of 0",
                assertThrows(IllegalArgumentException.class, () -> new SlabBudget(4, 0, 2)).getMessage());
    }
}
