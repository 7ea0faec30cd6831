package io.instanttensor.header;

import java.util.List;
import java.util.Map;

/// What the JSON says, before anything has been checked against the file.
///
/// @param metadata null where the file has none
/// @param tensors in the file's order; of a name that came twice, only the last entry
record ParsedHeader(Map<String, String> metadata, List<Tensor> tensors) {

    /// @param start of its bytes in the data section, unsigned
    /// @param end behind its bytes there, unsigned; may be anything
    record Tensor(String name, DType dtype, Shape shape, long start, long end) {}
}
