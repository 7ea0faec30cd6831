package io.instanttensor.stage;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.api.Test;

class StageCountersTest {
    @Test
    void mostReadsAreThoseThatWereUnderWayAtOnce() {
        StageCounters counters = new StageCounters();
        counters.readBegins();
        counters.readEnds();
        assertEquals(1, counters.mostReads.get());
        counters.readBegins();
        counters.readBegins();
        counters.readBegins();
        counters.readEnds();
        counters.readBegins();
        assertEquals(3, counters.mostReads.get());
    }
}
