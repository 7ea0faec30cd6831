package io.instanttensor.device;

/// The device had not the memory that was asked for.
public final class OutOfDeviceMemoryException extends DeviceException {
    private static final long serialVersionUID = 1L;

    public OutOfDeviceMemoryException(String what, long neededBytes, MemoryInfo memory) {
        super("not enough memory on " + what + ": needed " + neededBytes + " bytes, " + memory.freeBytes()
                + " of " + memory.totalBytes() + " bytes were free");
    }
}
