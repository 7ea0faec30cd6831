/// Reads and checks the headers of safetensors files.
///
/// Comes in: an open file. Goes out: a [SafetensorsHeader] whose tensors cover the file exactly, or a
/// [MalformedHeaderException]. Next stage: `plan`.
package io.instanttensor.header;
