/// Moves chunks: reader threads fetch them into staging buffers and queue their copies to the device.
///
/// Comes in: a plan, open files, a device. Goes out: bytes on their way into the room that the next
/// stage, `slab`, makes for them, with a fence behind each copy.
package io.instanttensor.stage;
