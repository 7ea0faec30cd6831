/// What Python sees: [PythonBridge] is the one class it looks up, and the objects it gets from there
/// take and return numbers and text only.
///
/// Threads: Python calls from any of its threads, without its lock. No call blocks for longer than the
/// timeout it is given, so that Ctrl-C gets through in between.
package io.instanttensor.bridge;
