package io.instanttensor.device;

/// The stream the caller works on. Not ours: it is never closed from here.
public interface ConsumerStream {
    void record(Fence fence);

    void waitFor(Fence fence);
}
