package io.instanttensor.header;

import java.util.HashMap;
import java.util.Map;

/// The element types of the safetensors format, under the names the format gives them.
///
/// The ordinal is what crosses to Python, so the order here is part of the bridge.
public enum DType {
    BOOL(8),
    F4(4),
    F6_E2M3(6),
    F6_E3M2(6),
    U8(8),
    I8(8),
    F8_E5M2(8),
    F8_E4M3(8),
    F8_E8M0(8),
    F8_E4M3FNUZ(8),
    F8_E5M2FNUZ(8),
    I16(16),
    U16(16),
    F16(16),
    BF16(16),
    I32(32),
    U32(32),
    F32(32),
    C64(64),
    F64(64),
    I64(64),
    U64(64);

    private static final Map<String, DType> BY_NAME = new HashMap<>();

    static {
        for (DType dtype : values()) {
            BY_NAME.put(dtype.name(), dtype);
        }
    }

    private final int bits;

    DType(int bits) {
        this.bits = bits;
    }

    /// Bits of one element; 4 and 6 for the packed types, whose tensors are whole bytes all the same.
    public int bits() {
        return bits;
    }

    /// The address a view of this type has to be a multiple of, in bytes.
    ///
    /// C64 is a pair of 4-byte floats, and torch still wants the whole element's size.
    public int alignmentBytes() {
        return Math.max(1, bits / 8);
    }

    /// The type the format calls `name`, or null where there is none.
    public static DType named(String name) {
        return BY_NAME.get(name);
    }
}
