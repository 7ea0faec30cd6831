package io.instanttensor.device;

/// A device call failed. The message names the call, what the driver answered and what was asked for.
public class DeviceException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    public DeviceException(String message) {
        super(message);
    }

    public DeviceException(String message, Throwable cause) {
        super(message, cause);
    }
}
