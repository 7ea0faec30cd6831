package io.instanttensor.read;

import io.instanttensor.file.CheckpointFile;

/// The ways there are of making positional reads.
///
/// A class that reads in some other way than pread is not even loaded before somebody asks for it.
public enum ReadMethod {
    PREAD("pread"),
    IO_URING("io_uring"),
    MMAP("mmap"),
    CUFILE("libcufile");

    private final String call;

    ReadMethod(String call) {
        this.call = call;
    }

    /// What reads, in words for the user.
    String call() {
        return call;
    }

    /// Why a file cannot be read so, in words for the user; empty where it can.
    String refusal(CheckpointFile file) {
        return switch (this) {
            case PREAD -> "";
            case IO_URING -> IoUringProbe.refusal();
            case MMAP -> MappedReads.refusal(file);
            case CUFILE -> "this engine stages through pinned memory and has no GPUDirect Storage";
        };
    }

    /// Reads of one thread, which closes them.
    PositionalReads open() {
        return switch (this) {
            case PREAD -> Preads.ALL;
            case IO_URING -> new RingReads();
            case MMAP -> new MappedReads();
            case CUFILE -> throw new IllegalStateException("nothing is read by " + call);
        };
    }
}
