package io.instanttensor.file;

import java.nio.file.Path;
import java.util.Collections;
import java.util.List;
import java.util.Map;

/// The files of a checkpoint, before any of them is opened.
///
/// @param files by file name, then by whole path, each once
/// @param fileByTensor what the indexes say of the tensors' places, each value one of `files`; empty where
///     there was no index. A claim, not checked against the headers here
public record ResolvedPaths(List<Path> files, Map<String, Path> fileByTensor) {
    public ResolvedPaths {
        files = List.copyOf(files);
        fileByTensor = Collections.unmodifiableMap(fileByTensor);
    }
}
