package io.instanttensor;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.instanttensor.device.DeviceId;
import io.instanttensor.plan.PlanLimits;
import io.instanttensor.read.ChunkReader;
import io.instanttensor.read.FileAccess;
import java.util.List;
import java.util.OptionalInt;
import java.util.OptionalLong;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class ReaderCountTest {
    private static final long MIB = 1 << 20;
    private static final int PROCESSORS = Runtime.getRuntime().availableProcessors();

    @ParameterizedTest(name = "{0} readers, {1} reads in flight, {2} MiB each: {3} to {4}")
    @CsvSource({
        ",, 2, 8, 49", ",, 1, 8, 64", ",, 64, 8, 8",
        ", 32, 2, 32, 32", ", 3, 2, 3, 3", ", 1024, 2, 49, 49", ", 1024, 1, 64, 64", ", 20, 64, 8, 8",
        "100,, 2, 100, 100", "4, 9, 2, 4, 4", "9, 4, 2, 4, 4"
    })
    void numberOfReadersThatWaitForStorage(
            Integer readers, Integer readsInFlight, long chunkMib, int first, int most) {
        assertEquals(new ReaderCount(first, most), count(readers, readsInFlight, chunkMib, false, false));
    }

    @Test
    void oneFileThatIsNotInMemoryIsEnoughToWait() {
        assertEquals(new ReaderCount(8, 49), count(null, null, 2, true, false));
    }

    @Test
    void filesInMemoryAreReadByAsManyAsTheMachineIsGoodFor() {
        int usual = Math.clamp(PROCESSORS - 2, 4, 16);
        assertEquals(new ReaderCount(usual, usual), count(null, null, 2, true, true));
    }

    @Test
    void filesInMemoryAreReadByFewerWhereFewerReadsMayBeInFlightAndNeverByMore() {
        int usual = Math.clamp(PROCESSORS - 2, 4, 16);
        assertEquals(new ReaderCount(3, 3), count(null, 3, 2, true));
        assertEquals(new ReaderCount(usual, usual), count(null, 1024, 2, true));
    }

    private static ReaderCount count(Integer readers, Integer readsInFlight, long chunkMib, Boolean... inMemory) {
        LoadOptions options = new LoadOptions(DeviceId.HOST, OptionalLong.empty(), chunkMib * MIB, optional(readers),
                optional(readsInFlight), 0.5, PlanLimits.Share.ALL, 1, 1);
        return ReaderCount.of(options, Stream.of(inMemory).map(ReaderCountTest::file).toList());
    }

    private static OptionalInt optional(Integer number) {
        return number == null ? OptionalInt.empty() : OptionalInt.of(number);
    }

    private static ChunkReader file(boolean inMemory) {
        return new ChunkReader(
                null, new FileAccess(FileAccess.Mode.BUFFERED, null, "as the test has it", List.of(), 1, inMemory));
    }
}
