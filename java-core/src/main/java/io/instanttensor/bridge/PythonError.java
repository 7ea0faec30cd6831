package io.instanttensor.bridge;

import io.instanttensor.device.DeviceException;
import io.instanttensor.device.OutOfDeviceMemoryException;
import io.instanttensor.file.FileException;
import io.instanttensor.header.MalformedHeaderException;
import io.instanttensor.header.MisplacedTensorException;
import io.instanttensor.read.NoBackendException;
import io.instanttensor.slab.ClosedException;
import io.instanttensor.slab.LoadFailedException;
import java.io.IOException;

/// Which Python exception stands for one of ours.
///
/// @param errno of an operating system error; 0 where there is none
/// @param file that it is about; empty where there is none
public record PythonError(Kind kind, String message, int errno, String file) {
    /// The names are known to Python.
    public enum Kind {
        SAFETENSOR,
        OS,
        VALUE,
        RUNTIME,
        DEVICE_MEMORY,
        HOST_MEMORY
    }

    static PythonError of(Throwable thrown) {
        return switch (thrown) {
            case LoadFailedException failed -> of(failed.getCause());
            case MalformedHeaderException malformed -> plain(Kind.SAFETENSOR, malformed);
            case MisplacedTensorException misplaced -> plain(Kind.SAFETENSOR, misplaced);
            case FileException file ->
                new PythonError(Kind.OS, file.getMessage(), file.errno(), String.valueOf(file.file()));
            case IOException io -> plain(Kind.OS, io);
            case OutOfDeviceMemoryException memory -> plain(Kind.DEVICE_MEMORY, memory);
            case DeviceException device -> plain(Kind.RUNTIME, device);
            case NoBackendException backend -> plain(Kind.RUNTIME, backend);
            // In safetensors' own words.
            case ClosedException closed -> new PythonError(Kind.SAFETENSOR, "File is closed", 0, "");
            case IllegalArgumentException argument -> plain(Kind.VALUE, argument);
            case OutOfMemoryError heap -> new PythonError(Kind.HOST_MEMORY,
                    "the engine's Java heap is too small (" + heap.getMessage()
                            + "): set INSTANTTENSOR_JAVA_OPTS=-Xmx1g before the first safe_open", 0, "");
            default -> new PythonError(Kind.RUNTIME, thrown.toString(), 0, "");
        };
    }

    /// The kind's name; text crosses the bridge more simply than an enum.
    public String kindName() {
        return kind.name();
    }

    private static PythonError plain(Kind kind, Throwable thrown) {
        return new PythonError(kind, thrown.getMessage(), 0, "");
    }
}
