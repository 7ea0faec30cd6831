package io.instanttensor;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.instanttensor.device.DeviceId;
import io.instanttensor.header.DType;
import io.instanttensor.plan.PlanLimits;
import io.instanttensor.read.Backend;
import io.instanttensor.read.TestFolders;
import io.instanttensor.slab.Slab;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.OptionalLong;
import jdk.jfr.Recording;
import jdk.jfr.consumer.RecordedEvent;
import jdk.jfr.consumer.RecordingFile;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/// What somebody with a flight recorder sees of a load.
@Timeout(60)
class FlightRecordingTest {
    private static final int TENSOR_BYTES = 10_000;

    @TempDir
    Path folder;

    @Test
    void everyReadIsAnEvent() throws Exception {
        Path path = SafetensorsFiles.builder()
                .tensor("x", DType.U8, new long[] {TENSOR_BYTES}, 1)
                .write(folder, "model.safetensors");
        List<RecordedEvent> events = record(path, Backend.MMAP);
        long header = events.getFirst().getLong("fileOffset");
        assertTrue(header > 8 && header < 200, "data starts at " + header);
        assertEquals(List.of(
                "io.instanttensor.Read " + path + " " + header + " " + (4096 - header) + " false",
                "io.instanttensor.Read " + path + " 4096 4096 false",
                "io.instanttensor.Read " + path + " 8192 " + (TENSOR_BYTES + header - 8192) + " false"),
                events.stream().map(FlightRecordingTest::text).toList());
        assertFalse(events.getFirst().getDuration().isNegative());
    }

    @Test
    void everyCopyIsAnEventToo() throws Exception {
        Path direct = TestFolders.direct();
        try {
            Path path = SafetensorsFiles.builder()
                    .tensor("x", DType.U8, new long[] {TENSOR_BYTES}, 1)
                    .write(direct, "model.safetensors");
            List<RecordedEvent> events = record(path, Backend.AIO);
            long header = events.stream().filter(e -> text(e).contains(".Read")).findFirst().orElseThrow()
                    .getLong("fileOffset");
            assertEquals(List.of(
                    "io.instanttensor.Copy 0 0 " + (4096 - header),
                    "io.instanttensor.Copy 0 " + (4096 - header) + " 4096",
                    "io.instanttensor.Copy 0 " + (8192 - header) + " " + (TENSOR_BYTES + header - 8192),
                    "io.instanttensor.Read " + path + " " + header + " " + (4096 - header) + " true",
                    "io.instanttensor.Read " + path + " 4096 4096 true",
                    "io.instanttensor.Read " + path + " 8192 " + (TENSOR_BYTES + header - 8192) + " true"),
                    events.stream().map(FlightRecordingTest::text).toList());
        } finally {
            TestFolders.delete(direct);
        }
    }

    @Test
    void waitForTheCallerIsAnEvent() throws Exception {
        Path path = SafetensorsFiles.builder()
                .tensor("x", DType.U8, new long[] {TENSOR_BYTES}, 1)
                .tensor("y", DType.U8, new long[] {TENSOR_BYTES}, 1)
                .write(folder, "model.safetensors");
        // Room for one of them: the reader of the other waits until the first is taken.
        LoadOptions options = options(OptionalLong.of(TENSOR_BYTES));
        Path dump = folder.resolve("load.jfr");
        try (Recording recording = new Recording()) {
            recording.enable("io.instanttensor.Wait");
            recording.start();
            // Often and long: the first use of an event can take longer than the reader has.
            for (int i = 0; i < 4; i++) {
                try (Checkpoint checkpoint = Checkpoint.open(List.of(path), List.of(Backend.MMAP), Optional.empty());
                        Load load = checkpoint.load(options)) {
                    Thread.sleep(150);
                    load.next().close();
                    load.next().close();
                }
            }
            recording.stop();
            recording.dump(dump);
        }
        List<String> longWaits = RecordingFile.readAllEvents(dump).stream()
                .filter(event -> event.getDuration().toMillis() >= 10)
                .map(event -> event.getString("what"))
                .distinct()
                .toList();
        assertEquals(List.of("ROOM"), longWaits);
    }

    /// @return by name, then offset
    private List<RecordedEvent> record(Path path, Backend backend) throws Exception {
        LoadOptions options = options(OptionalLong.empty());
        Path dump = folder.resolve("load.jfr");
        try (Recording recording = new Recording()) {
            recording.enable("io.instanttensor.Read");
            recording.enable("io.instanttensor.Copy");
            recording.disable("io.instanttensor.Wait");
            recording.start();
            try (Checkpoint checkpoint = Checkpoint.open(List.of(path), List.of(backend), Optional.empty());
                    Load load = checkpoint.load(options)) {
                for (Slab slab = load.next(); slab != null; slab = load.next()) {
                    slab.close();
                }
            }
            recording.stop();
            recording.dump(dump);
        }
        return RecordingFile.readAllEvents(dump).stream()
                .sorted(Comparator.comparing((RecordedEvent event) -> event.getEventType().getName())
                        .thenComparing(event -> event.getLong(isCopy(event) ? "slabOffset" : "fileOffset")))
                .toList();
    }

    private static LoadOptions options(OptionalLong bufferBytes) {
        return new LoadOptions(DeviceId.HOST, bufferBytes, 4096, OptionalInt.of(1), OptionalInt.empty(), 0.5,
                PlanLimits.Share.ALL, 1, 1);
    }

    private static boolean isCopy(RecordedEvent event) {
        return event.getEventType().getName().equals("io.instanttensor.Copy");
    }

    private static String text(RecordedEvent event) {
        return event.getEventType().getName() + " " + (isCopy(event)
                ? event.getInt("slab") + " " + event.getLong("slabOffset") + " " + event.getLong("bytes")
                : event.getString("file") + " " + event.getLong("fileOffset") + " " + event.getLong("bytes") + " "
                        + event.getBoolean("direct"));
    }
}
