package io.instanttensor.read;

import io.instanttensor.cufile.CuFileException;
import io.instanttensor.cufile.CuFileHandle;
import io.instanttensor.file.CheckpointFile;
import io.instanttensor.file.FileException;

/// Reads to a device by libcufile, of files that it has been told of.
final class CuFileReads {
    private CuFileReads() {}

    /// Has libcufile know a file, for as long as that is open. Why it would not; empty where it does.
    static String register(CheckpointFile file) {
        try {
            if (file.deviceHandle() == null) {
                file.attach(CuFileHandle.register(file.descriptor()));
            }
            return "";
        } catch (CuFileException e) {
            return e.getMessage();
        }
    }

    /// One read, which may bring less than asked for; 0 at the end of the file.
    ///
    /// @param base address on the device that is current
    /// @param baseOffset from there to where the bytes go
    static long readOnce(CheckpointFile file, long base, long baseOffset, long bytes, long offset)
            throws FileException {
        try {
            return file.deviceHandle().read(base, baseOffset, bytes, offset);
        } catch (CuFileException e) {
            throw file.readNothing(offset, bytes, e.errno(), e.getMessage());
        }
    }
}
