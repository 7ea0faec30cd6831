package io.instanttensor;

import io.instanttensor.device.DeviceId;
import io.instanttensor.read.Backend;
import io.instanttensor.slab.Slab;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;

/// What [LoadedClassesTest] runs in a process of its own: loads a checkpoint to the host, by the backends that it is
/// told.
final class LoadToHost {
    private LoadToHost() {}

    public static void main(String[] words) throws Exception {
        List<Backend> backends = Backend.named(Arrays.asList(words).subList(2, words.length));
        try (Checkpoint checkpoint = Checkpoint.open(List.of(Path.of(words[1])), backends, Optional.empty());
                Load load = checkpoint.load(LoadOptions.defaults(DeviceId.HOST))) {
            for (Slab slab = load.next(); slab != null; slab = load.next()) {
                slab.close();
            }
            System.out.println(load.stats().wantedBytes());
        }
    }
}
