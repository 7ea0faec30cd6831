package io.instanttensor.read;

import io.instanttensor.cufile.CuFileDriver;
import io.instanttensor.device.StubCufile;
import java.nio.file.Path;

/// What [CufileTest] runs in a process of its own: says why libcufile cannot be used.
public final class CuFileRefusal {
    private CuFileRefusal() {}

    public static void main(String[] words) {
        if (!words[1].isEmpty()) {
            StubCufile.load(Path.of(words[1]));
            StubCufile.failOpen(Long.parseLong(words[2]));
        }
        System.out.println(CuFileDriver.refusal());
    }
}
