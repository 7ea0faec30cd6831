/// The calls into the C library, and nothing else. Every one captures `errno` on its own, and
/// nothing outside this package sees a return code: a failure is an [ErrnoException].
///
/// All stages may use it; it uses none.
package io.instanttensor.posix;
