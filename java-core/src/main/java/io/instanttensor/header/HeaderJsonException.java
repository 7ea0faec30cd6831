package io.instanttensor.header;

/// The header is no JSON, or not the format's. Ends in a [MalformedHeaderException], which names the file.
final class HeaderJsonException extends Exception {
    private static final long serialVersionUID = 1L;

    private final long charOffset;

    /// @param charOffset which character of the header it is about; any number beyond it for its end
    HeaderJsonException(long charOffset, String detail) {
        super(detail);
        this.charOffset = charOffset;
    }

    /// The same error, with the place in the schema before it.
    HeaderJsonException in(String place) {
        return new HeaderJsonException(charOffset, place + ": " + getMessage());
    }

    long charOffset() {
        return charOffset;
    }
}
