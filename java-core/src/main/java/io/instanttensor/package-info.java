/// Loads safetensors checkpoints into host or GPU memory.
///
///     file    → names become open files
///     header  → their headers are read and checked
///     plan    → tensors are laid out in slabs, slabs are cut into chunks; no I/O
///     read    → chunks are fetched, past the page cache or through it
///     stage   → through pinned buffers, by copies that are only queued
///     slab    → into memory that is counted, fenced and handed out in order
///
/// Start at [Checkpoint]. `dlpack` and `bridge` lead on to Python.
package io.instanttensor;
