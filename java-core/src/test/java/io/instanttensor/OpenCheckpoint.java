package io.instanttensor;

import io.instanttensor.device.DeviceId;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.SymbolLookup;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;

/// What [PreparationTest] runs in a process of its own: opens a checkpoint for a device on the stub, and says how it
/// went.
final class OpenCheckpoint {
    private static final long PATIENCE_MILLIS = 10_000;

    private OpenCheckpoint() {}

    public static void main(String[] words) throws Exception {
        SymbolLookup.libraryLookup(Path.of(words[0]), Arena.global());
        int ordinal = Integer.parseInt(words[2]);
        DeviceId device = ordinal < 0 ? DeviceId.HOST : new DeviceId(DeviceId.Kind.CUDA, ordinal);
        try (Checkpoint checkpoint = Checkpoint.open(
                List.of(Path.of(words[1])), List.of(), Optional.of(LoadOptions.defaults(device)))) {
            System.out.println("opened with " + checkpoint.catalogue().tensors().size() + " tensors");
            System.out.println(pins(device) ? "a buffer was pinned" : "nothing was pinned");
        } catch (IOException | RuntimeException e) {
            System.out.println(e.getMessage());
        }
    }

    private static boolean pins(DeviceId device) throws InterruptedException {
        if (device.kind() == DeviceId.Kind.CPU) {
            return DeviceHome.of(device).staging().pinnedBytes() > 0;
        }
        long deadline = System.currentTimeMillis() + PATIENCE_MILLIS;
        while (DeviceHome.of(device).staging().pinnedBytes() == 0 && System.currentTimeMillis() < deadline) {
            Thread.sleep(1);
        }
        return DeviceHome.of(device).staging().pinnedBytes() > 0;
    }
}
