package io.instanttensor.read;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.instanttensor.posix.FileStat;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class DirectSupportTest {
    @ParameterizedTest(name = "says {0}, offsets {1}, memory {2}: {3} {4}")
    @CsvSource({
        "false, 0, 0, 4096, ''",
        "true, 512, 4, 4096, ''",
        "true, 4096, 512, 4096, ''",
        "true, 65536, 4096, 65536, ''",
        "true, 0, 0, 0, 'the file system takes no direct I/O'",
        "true, 131072, 4096, 0, 'the file system wants direct I/O in units of 131072 bytes'",
        "true, 12288, 4096, 0, 'the file system wants direct I/O in units of 12288 bytes'",
        "true, 8192, 8192, 0, 'the file system wants direct I/O into memory at multiples of 8192 bytes'",
    })
    void kernelsAnswerDecides(boolean says, int offsetAlign, int memoryAlign, int alignment, String reason) {
        FileStat stat = new FileStat(true, false, 1 << 20, offsetAlign, memoryAlign, says);
        assertEquals(new DirectSupport(alignment, reason), DirectSupport.of(stat));
    }
}
