package io.instanttensor.read;

import io.instanttensor.cufile.CuFileDriver;
import io.instanttensor.file.CheckpointFile;

/// The ways there are of making positional reads.
///
/// A class that reads in some other way than pread is not even loaded before somebody asks for it.
public enum ReadMethod {
    PREAD("pread"),
    IO_URING("io_uring"),
    MMAP("mmap"),
    /// To the memory of a GPU, which no other method reaches. What goes to the host's is read by pread.
    CUFILE("libcufile, or pread to the host,");

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
            case CUFILE -> CuFileDriver.refusal();
        };
    }

    /// Makes a file ready, whose descriptor has been set for direct or buffered reads. Why that did not work; empty
    /// where it did.
    String prepare(CheckpointFile file) {
        return this == CUFILE ? CuFileReads.register(file) : "";
    }

    /// Reads of one thread, to the host's memory; the thread closes them.
    PositionalReads open() {
        return switch (this) {
            case PREAD, CUFILE -> Preads.ALL;
            case IO_URING -> new RingReads();
            case MMAP -> new MappedReads();
        };
    }
}
