/// From what the caller names to open files: folders and indexes are resolved, files opened.
///
/// Comes in: paths. Goes out: [CheckpointFile]s in the checkpoint's order. Next stage: `header`.
package io.instanttensor.file;
