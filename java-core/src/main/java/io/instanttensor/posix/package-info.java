/// The calls into the C library. Every one captures `errno` on its own, and
/// nothing outside this package sees a return code: a failure is an [ErrnoException]. Beside them, what calls that
/// take long need: threads, and their outcomes.
///
/// All stages may use it; it uses none.
package io.instanttensor.posix;
