package io.instanttensor.header;

/// What can be wrong with a header, in the order in which it is checked.
public enum HeaderFault {
    HEADER_TOO_SMALL("HeaderTooSmall"),
    HEADER_TOO_LARGE("HeaderTooLarge"),
    INVALID_HEADER_LENGTH("InvalidHeaderLength"),
    INVALID_HEADER("InvalidHeader"),
    INVALID_HEADER_DESERIALIZATION("InvalidHeaderDeserialization"),
    INVALID_OFFSET("InvalidOffset"),
    VALIDATION_OVERFLOW("ValidationOverflow"),
    MISALIGNED_SLICE("MisalignedSlice"),
    TENSOR_INVALID_INFO("TensorInvalidInfo"),
    METADATA_INCOMPLETE_BUFFER("MetadataIncompleteBuffer");

    private final String referenceName;

    HeaderFault(String referenceName) {
        this.referenceName = referenceName;
    }

    /// What the reference implementation calls it.
    public String referenceName() {
        return referenceName;
    }
}
