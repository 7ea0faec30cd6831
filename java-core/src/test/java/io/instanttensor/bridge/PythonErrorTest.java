package io.instanttensor.bridge;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.instanttensor.bridge.PythonError.Kind;
import io.instanttensor.device.DeviceException;
import io.instanttensor.device.MemoryInfo;
import io.instanttensor.device.OutOfDeviceMemoryException;
import io.instanttensor.file.FileException;
import io.instanttensor.header.HeaderFault;
import io.instanttensor.header.MalformedHeaderException;
import io.instanttensor.header.MisplacedTensorException;
import io.instanttensor.read.NoBackendException;
import io.instanttensor.slab.ClosedException;
import io.instanttensor.slab.LoadFailedException;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

class PythonErrorTest {
    private static final Path FILE = Path.of("m.safetensors");

    static Stream<Arguments> table() {
        MalformedHeaderException malformed =
                new MalformedHeaderException(HeaderFault.HEADER_TOO_SMALL, FILE, "expected more");
        MisplacedTensorException misplaced = new MisplacedTensorException("w", FILE);
        return Stream.of(
                row(malformed, Kind.SAFETENSOR, malformed.getMessage(), 0, ""),
                row(misplaced, Kind.SAFETENSOR, misplaced.getMessage(), 0, ""),
                row(new FileException(FILE, 2, "gone"), Kind.OS, "m.safetensors: gone", 2, "m.safetensors"),
                row(new FileException(FILE, 0, "cut"), Kind.OS, "m.safetensors: cut", 0, "m.safetensors"),
                row(new IOException("io"), Kind.OS, "io", 0, ""),
                row(new OutOfDeviceMemoryException("cuda:0", 8, new MemoryInfo(4, 16)), Kind.DEVICE_MEMORY,
                        "not enough memory on cuda:0: needed 8 bytes, 4 of 16 bytes were free", 0, ""),
                row(new DeviceException("no driver"), Kind.RUNTIME, "no driver", 0, ""),
                row(new NoBackendException(FILE, List.of("AIO: no")), Kind.RUNTIME,
                        "m.safetensors: none of the backends asked for can read it: AIO: no", 0, ""),
                row(new IllegalArgumentException("chunk of 1"), Kind.VALUE, "chunk of 1", 0, ""),
                row(new OutOfMemoryError("Java heap space"), Kind.HOST_MEMORY,
                        "the engine's Java heap is too small (Java heap space): set INSTANTTENSOR_JAVA_OPTS=-Xmx1g "
                                + "before the first safe_open", 0, ""),
                row(new ClosedException("the load has been closed"), Kind.SAFETENSOR, "File is closed", 0, ""),
                row(new IllegalStateException("no"), Kind.RUNTIME, "java.lang.IllegalStateException: no", 0, ""),
                row(new ArithmeticException("long overflow"), Kind.RUNTIME,
                        "java.lang.ArithmeticException: long overflow", 0, ""));
    }

    @ParameterizedTest
    @MethodSource("table")
    void exceptionOfOursBecomesOneOfPythons(Throwable thrown, PythonError expected) {
        assertEquals(expected, PythonBridge.describe(thrown));
        assertEquals(expected.kind().name(), PythonBridge.describe(thrown).kindName());
    }

    @ParameterizedTest
    @MethodSource("table")
    void failureOfAReaderIsWhatCausedIt(Throwable thrown, PythonError expected) {
        assertEquals(expected, PythonBridge.describe(new LoadFailedException(thrown)));
    }

    private static Arguments row(Throwable thrown, Kind kind, String message, int errno, String file) {
        return Arguments.of(thrown, new PythonError(kind, message, errno, file));
    }
}
