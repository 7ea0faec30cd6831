package io.instanttensor.read;

/// What one reader thread reads with: each method is opened when a file first asks for it, and closed with this.
public final class ReadMethods implements AutoCloseable {
    private PositionalReads[] opened;

    PositionalReads of(ReadMethod method) {
        if (method == ReadMethod.PREAD) {
            return Preads.ALL;
        }
        if (opened == null) {
            opened = new PositionalReads[ReadMethod.values().length];
        }
        PositionalReads reads = opened[method.ordinal()];
        if (reads == null) {
            reads = method.open();
            opened[method.ordinal()] = reads;
        }
        return reads;
    }

    /// Closes, on the thread that read.
    @Override
    public void close() {
        if (opened != null) {
            for (PositionalReads reads : opened) {
                if (reads != null) {
                    reads.close();
                }
            }
            opened = null;
        }
    }
}
