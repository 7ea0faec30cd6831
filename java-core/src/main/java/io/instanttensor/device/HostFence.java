package io.instanttensor.device;

/// A fence among copies that are done when they return: always passed.
final class HostFence implements Fence {
    private final Lifetime lifetime = new Lifetime("fence of cpu");

    /// @throws IllegalArgumentException for another device's fence
    static void requireUsable(Fence fence) {
        if (!(fence instanceof HostFence host)) {
            throw new IllegalArgumentException("the fence is not one of cpu: " + fence);
        }
        host.lifetime.requireOpen();
    }

    @Override
    public boolean passed() {
        lifetime.requireOpen();
        return true;
    }

    @Override
    public void await() {
        lifetime.requireOpen();
    }

    @Override
    public void close() {
        lifetime.end();
    }
}
