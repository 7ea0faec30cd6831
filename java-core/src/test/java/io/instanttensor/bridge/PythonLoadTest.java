package io.instanttensor.bridge;

import static java.lang.foreign.ValueLayout.JAVA_LONG;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.instanttensor.Checkpoint;
import io.instanttensor.SafetensorsFiles;
import io.instanttensor.dlpack.ManagedTensors;
import io.instanttensor.header.DType;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/// A load as numbers, which is what Python gets.
@Timeout(30)
class PythonLoadTest {
    private static final long LONG_MILLIS = 20_000;
    private static final PythonOptions HOST = PythonBridge.options(-1, 0, 0, 0, 0, 0, 0, 1, 1, 1);

    @TempDir
    Path folder;

    @Test
    void constantsAreThoseThatPythonKnows() {
        assertArrayEquals(new long[] {-1, -2, 0},
                new long[] {PythonLoad.NOT_YET, PythonLoad.EXHAUSTED, PythonLoad.EMPTY});
    }

    @Test
    void layoutIsSlabsThenOffsets() throws Exception {
        PythonCheckpoint checkpoint = open();
        PythonLoad load = checkpoint.loadAll(HOST);
        long[] expected = {1, 3, 32, 32, 0, 8, 28};
        assertArrayEquals(expected, MemorySegment.ofAddress(load.layoutAddress())
                .reinterpret(expected.length * 8L).toArray(JAVA_LONG));
        load.close();
        load.close();
        checkpoint.close();
    }

    @Test
    void slabIsTheAddressOfItsStructAndThenComesTheEnd() throws Exception {
        PythonCheckpoint checkpoint = open();
        PythonLoad load = checkpoint.loadAll(HOST);
        long struct = pollUntilThere(load);
        MemorySegment data = MemorySegment.ofAddress(
                MemorySegment.ofAddress(struct).reinterpret(8).get(JAVA_LONG, 0)).reinterpret(32);
        assertArrayEquals(new byte[] {1, 2, 3, 4, 5, 6, 7, 8}, data.asSlice(0, 8).toArray(ValueLayout.JAVA_BYTE));
        assertEquals(PythonLoad.EXHAUSTED, load.poll(0, 0));
        assertTrue(load.drained(LONG_MILLIS));
        assertEquals(31, load.stagedBytes());
        double[] stats = load.stats();
        assertArrayEquals(new double[] {31, 31, 1}, new double[] {stats[0], stats[1], stats[2]});
        assertEquals(14, stats.length);
        ManagedTensors.takeBack(struct);
        load.close();
        checkpoint.close();
    }

    @Test
    void slabWithoutAByteIsNoStruct() throws Exception {
        Path file = SafetensorsFiles.builder()
                .tensor("nothing", DType.F32, new long[] {0}, 1)
                .write(folder, "empty.safetensors");
        PythonCheckpoint checkpoint = new PythonCheckpoint(Checkpoint.open(List.of(file)));
        PythonLoad load = checkpoint.loadAll(HOST);
        assertEquals(PythonLoad.EMPTY, load.poll(0, LONG_MILLIS));
        assertEquals(PythonLoad.EXHAUSTED, load.poll(0, LONG_MILLIS));
        load.close();
        checkpoint.close();
    }

    @Test
    void rangesArriveInMemoryOfTheCallers() throws Exception {
        PythonCheckpoint checkpoint = open();
        try (Arena arena = Arena.ofShared()) {
            MemorySegment target = arena.allocate(4);
            MemorySegment ranges = arena.allocateFrom(JAVA_LONG, 0, 3, 4, target.address());
            PythonLoad load = checkpoint.loadInto(ranges.address(), 1, 0, HOST);
            long arrived = load.pollInto(0, LONG_MILLIS);
            assertEquals(PythonLoad.EMPTY, arrived);
            assertEquals(PythonLoad.EXHAUSTED, load.pollInto(0, 0));
            load.close();
            assertArrayEquals(new byte[] {4, 5, 6, 7}, target.toArray(ValueLayout.JAVA_BYTE));
        }
        checkpoint.close();
    }

    @Test
    void zeroMeansNotGiven() {
        assertEquals(io.instanttensor.LoadOptions.defaults(io.instanttensor.device.DeviceId.HOST),
                HOST.toLoadOptions());
        assertEquals("LoadOptions[device=cuda:3, bufferBytes=OptionalLong[9], chunkBytes=4096, "
                + "readers=OptionalInt[5], readsInFlight=OptionalInt[7], maxFreeFraction=0.25, "
                + "share=Share[rank=1, world=2], processes=2, ranks=4]",
                PythonBridge.options(3, 9, 4096, 5, 7, 0.25, 1, 2, 2, 4).toLoadOptions().toString());
    }

    private static long pollUntilThere(PythonLoad load) throws InterruptedException {
        long struct = load.poll(0, 0);
        while (struct == PythonLoad.NOT_YET) {
            struct = load.poll(0, 100);
        }
        return struct;
    }

    private PythonCheckpoint open() throws IOException {
        Path file = SafetensorsFiles.builder()
                .tensor("a", DType.U8, new long[] {8}, 1)
                .tensor("b", DType.F32, new long[] {5}, 40)
                .tensor("c", DType.U8, new long[] {3}, 90)
                .write(folder, "model.safetensors");
        return new PythonCheckpoint(Checkpoint.open(List.of(file)));
    }
}
