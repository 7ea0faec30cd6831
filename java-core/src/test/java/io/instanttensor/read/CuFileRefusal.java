package io.instanttensor.read;

import io.instanttensor.cufile.CuFileDriver;
import io.instanttensor.device.StubCufile;
import java.lang.foreign.Arena;
import java.lang.foreign.SymbolLookup;
import java.nio.file.Path;

/// What [CufileTest] runs in a process of its own: says why libcufile cannot be used, with no driver, with the stub of
/// the driver alone, or with that of libcufile, too.
public final class CuFileRefusal {
    private CuFileRefusal() {}

    public static void main(String[] words) {
        if (words[1].isEmpty()) {
            System.out.println(CuFileDriver.refusal());
            return;
        }
        SymbolLookup.libraryLookup(Path.of(words[0]), Arena.global());
        if (words.length > 2) {
            StubCufile.load(Path.of(words[1]));
            StubCufile.failOpen(Long.parseLong(words[2]));
        }
        System.out.println(CuFileDriver.refusal());
    }
}
