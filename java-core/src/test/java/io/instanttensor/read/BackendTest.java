package io.instanttensor.read;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class BackendTest {
    @ParameterizedTest
    @CsvSource({
        "AIO, PREAD, true", "AIO_BUFFERED, PREAD, false", "URING, IO_URING, true",
        "URING_BUFFERED, IO_URING, false", "CUFILE, CUFILE, true", "MMAP, MMAP, false"})
    void everyNameOfInstantTensorMeansWhatItSays(String name, ReadMethod method, boolean direct) {
        assertEquals(List.of(Backend.valueOf(name)), Backend.named(List.of(name)));
        assertEquals(method, Backend.valueOf(name).method());
        assertEquals(direct, Backend.valueOf(name).direct());
    }

    @Test
    void orderOfPreferenceIsKept() {
        assertEquals(List.of(Backend.URING, Backend.MMAP, Backend.AIO),
                Backend.named(List.of("URING", "MMAP", "AIO")));
        assertEquals(List.of(), Backend.named(List.of()));
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "aio", "SPDK"})
    void unknownNameIsToldWhichThereAre(String name) {
        assertEquals("backend '" + name
                + "': expected one of [AIO, AIO_BUFFERED, URING, URING_BUFFERED, CUFILE, MMAP]",
                assertThrows(IllegalArgumentException.class, () -> Backend.named(List.of("MMAP", name))).getMessage());
    }

    @Test
    void accessOfOddAlignmentIsRefused() {
        assertEquals("BUFFERED access with an alignment of 512", assertThrows(IllegalArgumentException.class,
                () -> new FileAccess(FileAccess.Mode.BUFFERED, null, "", List.of(), 512, false)).getMessage());
        assertEquals("DIRECT access with an alignment of 513", assertThrows(IllegalArgumentException.class,
                () -> new FileAccess(FileAccess.Mode.DIRECT, null, "", List.of(), 513, false)).getMessage());
    }

    @Test
    void nobodyLeftToReadIsAnErrorWithAllReasons() {
        assertEquals("m.safetensors: none of the backends asked for can read it: AIO: no; CUFILE: neither",
                new NoBackendException(Path.of("m.safetensors"), List.of("AIO: no", "CUFILE: neither")).getMessage());
    }
}
