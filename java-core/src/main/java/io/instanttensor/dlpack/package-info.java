/// Hands slabs to Python's array libraries, by the DLPack convention.
///
/// Comes in: a [io.instanttensor.slab.Slab] that was handed out. Goes out: the address of a
/// `DLManagedTensor` whose deleter gives the slab back. What follows is Python: capsule, tensor, views.
package io.instanttensor.dlpack;
