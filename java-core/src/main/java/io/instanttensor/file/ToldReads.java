package io.instanttensor.file;

import java.io.FilterInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Path;

/// A file that is read as a stream; who waits is told of reads that take long. For one thread.
final class ToldReads extends FilterInputStream {
    private final Path path;
    private final ReadUnderWay reading = ReadUnderWay.ofThread();
    private long offset;

    /// @param bytes of the file, from its start; closed with this
    ToldReads(Path path, InputStream bytes) {
        super(bytes);
        this.path = path;
    }

    @Override
    public int read() throws IOException {
        byte[] one = new byte[1];
        return read(one, 0, 1) < 0 ? -1 : Byte.toUnsignedInt(one[0]);
    }

    @Override
    public int read(byte[] target, int at, int bytes) throws IOException {
        reading.begin(path, offset, bytes);
        try {
            int came = in.read(target, at, bytes);
            offset += Math.max(0, came);
            return came;
        } finally {
            reading.end();
        }
    }

    @Override
    public void close() throws IOException {
        reading.close();
        in.close();
    }
}
