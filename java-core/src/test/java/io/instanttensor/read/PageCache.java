package io.instanttensor.read;

import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.invoke.MethodHandle;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/// Takes files out of the page cache.
final class PageCache {
    private static final int POSIX_FADV_RANDOM = 1;
    private static final int POSIX_FADV_DONTNEED = 4;

    // int posix_fadvise(int fd, off_t offset, off_t len, int advice)
    private static final MethodHandle FADVISE = Linker.nativeLinker().downcallHandle(
            Linker.nativeLinker().defaultLookup().findOrThrow("posix_fadvise"),
            FunctionDescriptor.of(JAVA_INT, JAVA_INT, JAVA_LONG, JAVA_LONG, JAVA_INT));

    private PageCache() {}

    /// @param descriptor open on `file`
    static void evict(Path file, int descriptor) {
        evict(file, descriptor, 0);
    }

    /// @param offset of the first byte that is to go
    static void evict(Path file, int descriptor, long offset) {
        // Pages that were not written out yet would stay.
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.WRITE)) {
            channel.force(true);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        advise(descriptor, offset, POSIX_FADV_DONTNEED);
    }

    /// Reads by this descriptor bring nothing else to the page cache from now on.
    static void dontReadAhead(int descriptor) {
        advise(descriptor, 0, POSIX_FADV_RANDOM);
    }

    private static void advise(int descriptor, long offset, int advice) {
        try {
            int rc = (int) FADVISE.invokeExact(descriptor, offset, 0L, advice);
            if (rc != 0) {
                throw new AssertionError("posix_fadvise: " + rc);
            }
        } catch (Throwable e) {
            throw new AssertionError(e);
        }
    }
}
