package io.instanttensor.read;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.instanttensor.device.ChildJvm;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;

class MmapTest extends BufferedReadContract {
    @Override
    Backend backend() {
        return Backend.MMAP;
    }

    @Override
    String call() {
        return "pread";
    }

    /// Where a program has taken SIGBUS for itself, a fault would end the process: reading through the mapping did,
    /// with exit status 135.
    @Test
    void processThatHasTakenTheJvmsHandlerAwayLivesOn() throws Exception {
        Path cut = Files.write(folder.resolve("cut"), new byte[1 << 20]);
        assertEquals("error: " + cut + ": read 4,096 of 1,048,576 bytes at 0: the file ends there (it had 1,048,576 "
                + "bytes when it was opened)\n", ChildJvm.run(CutMapping.class, List.of(), cut.toString()));
    }
}
