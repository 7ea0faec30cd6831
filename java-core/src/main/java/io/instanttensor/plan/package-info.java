/// From tensors to slabs and chunks: who lies where on the device, and which reads fill it.
///
/// Comes in: the byte ranges that are wanted, and limits. Goes out: a [LoadPlan] of records. No I/O
/// happens here, so all of it can be tested without a file or a GPU. Next stage: `read`.
package io.instanttensor.plan;
