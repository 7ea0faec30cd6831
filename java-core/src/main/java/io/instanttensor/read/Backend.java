package io.instanttensor.read;

import java.util.List;

/// The names by which InstantTensor's users choose how files are read, and what each means here: by which method,
/// and whether past the page cache or through it.
public enum Backend {
    /// Threads that call pread past the page cache, one read each; not the kernel's asynchronous I/O.
    AIO(ReadMethod.PREAD, true),
    /// Threads that call pread through the page cache.
    AIO_BUFFERED(ReadMethod.PREAD, false),
    /// io_uring past the page cache, with a ring for each reader.
    URING(ReadMethod.IO_URING, true),
    /// io_uring through the page cache.
    URING_BUFFERED(ReadMethod.IO_URING, false),
    /// libcufile, straight to the memory of a GPU where all files of a load can be read so.
    CUFILE(ReadMethod.CUFILE, true),
    /// Copies out of a mapping of the file, and thus through the page cache.
    MMAP(ReadMethod.MMAP, false);

    private final ReadMethod method;
    private final boolean direct;

    Backend(ReadMethod method, boolean direct) {
        this.method = method;
        this.direct = direct;
    }

    public ReadMethod method() {
        return method;
    }

    /// Whether it reads past the page cache.
    public boolean direct() {
        return direct;
    }

    /// The backends of these names.
    ///
    /// @throws IllegalArgumentException naming the unknown one and those there are
    public static List<Backend> named(List<String> names) {
        return names.stream().map(Backend::named).toList();
    }

    private static Backend named(String name) {
        for (Backend backend : values()) {
            if (backend.name().equals(name)) {
                return backend;
            }
        }
        throw new IllegalArgumentException("backend '" + name + "': expected one of " + List.of(values()));
    }
}
