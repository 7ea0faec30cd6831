package io.instanttensor.stage;

/// Steps of giving something back, all of which are taken even where one fails.
public final class Cleanup {
    private RuntimeException failure;

    public void run(Runnable step) {
        try {
            step.run();
        } catch (RuntimeException e) {
            if (failure == null) {
                failure = e;
            } else {
                failure.addSuppressed(e);
            }
        }
    }

    /// Throws the first failure, with the later ones suppressed.
    public void finish() {
        if (failure != null) {
            throw failure;
        }
    }
}
