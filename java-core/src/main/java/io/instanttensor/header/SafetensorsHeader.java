package io.instanttensor.header;

import java.nio.file.Path;
import java.util.List;
import java.util.Map;

/// A checked header: its tensors cover the file from `dataOffset` to its end, without holes.
///
/// @param fileBytes size of the file when it was opened
/// @param dataOffset where the data section starts: 8 + the header's length
/// @param metadata `__metadata__`; null where the file has none
/// @param tensors ordered by (offset, name), so that the order is the same in every process
/// @param asciiNames whether it is known that no tensor's name has other characters
public record SafetensorsHeader(
        Path file, long fileBytes, long dataOffset, Map<String, String> metadata, List<TensorEntry> tensors,
        boolean asciiNames) {}
