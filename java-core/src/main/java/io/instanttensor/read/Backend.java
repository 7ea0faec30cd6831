package io.instanttensor.read;

import java.util.List;

/// The names by which InstantTensor's users choose how files are read, and what each means here.
///
/// The engine has one reader: many threads that call pread. Of a name counts whether it asks for
/// direct or buffered reads; through which kernel interface is not kept.
public enum Backend {
    AIO(Kind.DIRECT),
    AIO_BUFFERED(Kind.BUFFERED),
    URING(Kind.DIRECT),
    URING_BUFFERED(Kind.BUFFERED),
    CUFILE(Kind.GPU_DIRECT_STORAGE),
    MMAP(Kind.BUFFERED);

    /// What a backend asks for.
    public enum Kind {
        DIRECT,
        BUFFERED,
        GPU_DIRECT_STORAGE
    }

    private final Kind kind;

    Backend(Kind kind) {
        this.kind = kind;
    }

    public Kind kind() {
        return kind;
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
