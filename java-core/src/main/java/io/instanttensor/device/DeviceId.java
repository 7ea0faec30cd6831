package io.instanttensor.device;

/// Which device, as DLPack numbers them.
///
/// @param ordinal 0 for the host
public record DeviceId(Kind kind, int ordinal) {
    /// The kinds we have an implementation for.
    public enum Kind {
        CPU(1),
        CUDA(2);

        private final int dlpackType;

        Kind(int dlpackType) {
            this.dlpackType = dlpackType;
        }

        /// `DLDeviceType` of dlpack.h.
        public int dlpackType() {
            return dlpackType;
        }
    }

    public static final DeviceId HOST = new DeviceId(Kind.CPU, 0);

    public DeviceId {
        if (ordinal < 0) {
            throw new IllegalArgumentException("device ordinal " + ordinal + ": expected 0 or more");
        }
    }

    /// As for any record; written out, since linking a record's own takes the JVM 5 ms, and every load asks.
    @Override
    public boolean equals(Object other) {
        return other instanceof DeviceId id && id.kind == kind && id.ordinal == ordinal;
    }

    @Override
    public int hashCode() {
        return 31 * kind.ordinal() + ordinal;
    }

    @Override
    public String toString() {
        return kind == Kind.CPU ? "cpu" : "cuda:" + ordinal;
    }
}
