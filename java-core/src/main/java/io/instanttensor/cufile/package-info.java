/// NVIDIA's libcufile, where the process has it: reads from storage to the memory of a GPU, past the host's where the
/// machine can (GPUDirect Storage), and through libcufile's own buffers where it cannot (its compatibility mode).
///
/// Comes in: a descriptor, an address on a device. Goes out: bytes there. Used by `file`, which owns descriptors.
package io.instanttensor.cufile;
