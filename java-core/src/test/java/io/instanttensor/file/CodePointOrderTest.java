package io.instanttensor.file;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;

class CodePointOrderTest {
    @Test
    void charactersBeyondSixteenBitsComeLast() {
        List<String> ordered = List.of("", "a", "ab\ud83d\ude00", "a\u00e9", "b", "\ud7ff", "\ue000", "\uffff",
                "\ud83d\ude00", "\ud83d\ude00a", "\ud83d\ude01", "\ud83e\udd16");
        List<String> shuffled = new ArrayList<>(ordered);
        Collections.shuffle(shuffled, new Random(7));

        shuffled.sort(CodePointOrder.INSTANCE);

        assertEquals(ordered, shuffled);
    }
}
