/// The memory that tensors end up in: how much of it there may be, who fills it, who holds it, and
/// when it may be written to again.
///
/// Comes in: layouts, and bytes from `stage`. Goes out: [Slab]s in order, each handed out once and
/// given back by whoever drops it last. Next stage: `dlpack`.
package io.instanttensor.slab;
