/// Reads chunks, past the page cache or through it.
///
/// Comes in: open files and chunks. Goes out: their bytes, in memory that the caller lends; and for
/// every file the [FileAccess] that was chosen and why. Next stage: `device` and `stage`.
package io.instanttensor.read;
