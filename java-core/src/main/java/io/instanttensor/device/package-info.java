/// Device memory, streams and fences, for the host and (in `cuda`) for NVIDIA GPUs.
///
/// Comes in: sizes and copies. Goes out: memory that has been written, and fences that say when.
/// Next stage: `stage`, which moves chunks through these.
package io.instanttensor.device;
