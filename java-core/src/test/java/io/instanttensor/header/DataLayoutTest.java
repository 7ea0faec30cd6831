package io.instanttensor.header;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;

/// Tensors of a usual header are looked at once where all is well: what comes of it is the same, and so is every fault.
class DataLayoutTest {
    private static final long DATA_OFFSET = 100;
    private static final Shape[] SHAPES = {
        Shape.of(), Shape.of(2), Shape.of(3, 4), Shape.of(0), Shape.of(0, 5), Shape.of(1L << 40, 1L << 40),
        Shape.of(1L << 31, 1L << 31), Shape.of(1L << 59, 2), Shape.of(1L << 60, 1L << 60, 0), Shape.of(3)
    };

    private static String outcome(long fileBytes, List<ParsedHeader.Tensor> tensors) {
        try {
            return new DataLayout(Path.of("m.safetensors"), fileBytes, DATA_OFFSET).check(tensors).toString();
        } catch (MalformedHeaderException e) {
            return e.getMessage();
        }
    }

    private static List<TensorEntry> some(Random random) {
        List<TensorEntry> entries = new ArrayList<>();
        int usual = random.nextInt(10);
        long at = DATA_OFFSET;
        for (int i = random.nextInt(6); i > 0; i--) {
            DType dtype = random.nextInt(3) > 0 ? DType.F32 : DType.values()[random.nextInt(DType.values().length)];
            Shape shape = SHAPES[random.nextInt(usual < 5 ? 3 : SHAPES.length)];
            long bytes = dtype.bits();
            for (int axis = 0; axis < shape.rank(); axis++) {
                bytes *= shape.dim(axis);
            }
            bytes = Math.max(0, bytes / 8) + (usual > 7 && random.nextInt(4) == 0 ? 1 : 0);
            at += usual == 6 && random.nextInt(4) == 0 ? 1 : 0;
            entries.add(new TensorEntry("t" + random.nextInt(1000), dtype, shape, at, bytes));
            at += bytes;
        }
        if (usual > 8) {
            Collections.shuffle(entries, random);
        }
        return entries;
    }

    @Test
    void whatIsSeenAtOnceIsWhatAllChecksSee() {
        long seed = System.nanoTime();
        Random random = new Random(seed);
        int whole = 0;
        int faults = 0;
        for (int round = 0; round < 20_000; round++) {
            List<TensorEntry> entries = some(random);
            long end = entries.isEmpty() ? DATA_OFFSET : entries.getLast().fileEnd();
            long fileBytes = end + (random.nextInt(8) == 0 ? random.nextInt(3) - 1 : 0);
            UsualTensors usual = new UsualTensors(DATA_OFFSET, entries);
            String expected = outcome(fileBytes, new ArrayList<>(usual));
            assertEquals(expected, outcome(fileBytes, usual), "seed " + seed + ": " + entries);
            whole += expected.startsWith("[") ? 1 : 0;
            faults += expected.startsWith("[") ? 0 : 1;
        }
        assertTrue(whole > 1_000 && faults > 1_000, "seed " + seed + ": " + whole + " whole, " + faults + " at fault");
    }
}
