package io.instanttensor.posix;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(60)
class PatientlyTest {
    private static final List<Integer> ITEMS = IntStream.range(0, 40).boxed().toList();

    private final List<Integer> results = new ArrayList<>();

    @Test
    void resultsAreInOrderHoweverLongEachTakes() throws IOException {
        Patiently.each(ITEMS, PatientlyTest::slowly, results, "testing");
        assertEquals(ITEMS, results);
    }

    @Test
    void oneThatFailsLeavesAllOthersToTheCaller() {
        IOException failure = assertThrows(IOException.class, () -> Patiently.each(ITEMS, item -> {
            if (item == 20 || item == 30) {
                throw new IOException("item " + item);
            }
            return slowly(item);
        }, results, "testing"));
        assertEquals("item 20", failure.getMessage());
        assertEquals(without(20, 30), results);
    }

    @Test
    void anErrorLeavesAllOthersToTheCaller() {
        OutOfMemoryError failure = assertThrows(OutOfMemoryError.class, () -> Patiently.each(ITEMS, item -> {
            if (item == 20) {
                throw new OutOfMemoryError("item " + item);
            }
            return slowly(item);
        }, results, "testing"));
        assertEquals("item 20", failure.getMessage());
        assertEquals(without(20), results);
    }

    /// So that none but the first are done one after the other.
    private static int slowly(int item) {
        try {
            Thread.sleep(10);
        } catch (InterruptedException e) {
            throw new AssertionError(e);
        }
        return item;
    }

    private static List<Integer> without(Integer... failed) {
        return ITEMS.stream().filter(item -> !List.of(failed).contains(item)).toList();
    }
}
