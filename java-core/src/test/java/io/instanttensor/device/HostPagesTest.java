package io.instanttensor.device;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class HostPagesTest {
    private static final long HUGE = 2L << 20;

    @ParameterizedTest
    @ValueSource(longs = {1, 4096, HUGE - 1, HUGE, 8 * HUGE + 128 * 1024})
    void pagesForADeviceBeginWhereAHugeOneCanAndNoForkSharesThem(long bytes) throws Exception {
        long address;
        try (HostPages pages = HostPages.mapForDevice("pages", bytes)) {
            MemorySegment segment = pages.segment();
            address = segment.address();
            assertEquals(0, address % HUGE);
            assertEquals(bytes, segment.byteSize());
            segment.set(ValueLayout.JAVA_BYTE, 0, (byte) 1);
            segment.set(ValueLayout.JAVA_BYTE, bytes - 1, (byte) 1);
            for (long at = 0; at < bytes; at += HUGE) {
                assertTrue(Mappings.flags(address + at).contains("dc"), "a fork would copy the page at " + at);
            }
            if (Files.exists(Path.of("/sys/kernel/mm/transparent_hugepage"))) {
                assertTrue(Mappings.flags(address).contains("hg"), "small pages");
            }
        }
        assertEquals(List.of(), Mappings.flags(address));
    }

    @Test
    void segmentEndsWithItsPages() throws Exception {
        HostPages pages = HostPages.mapForDevice("pages", 10);
        MemorySegment segment = pages.segment();
        pages.close();
        pages.close();
        assertThrows(IllegalStateException.class, () -> segment.get(ValueLayout.JAVA_BYTE, 0));
        assertThrows(IllegalStateException.class, pages::segment);
    }
}
