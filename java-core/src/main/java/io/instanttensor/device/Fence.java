package io.instanttensor.device;

/// A point in a stream. Belongs to whoever made it.
public interface Fence extends AutoCloseable {
    /// Whether the device has come past the last mark; never blocks.
    boolean passed();

    /// Blocks the calling thread until it has.
    void await();

    @Override
    void close();
}
