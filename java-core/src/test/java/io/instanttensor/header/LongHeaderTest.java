package io.instanttensor.header;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.instanttensor.SafetensorsFiles;
import io.instanttensor.file.CheckpointFile;
import io.instanttensor.file.FileException;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Random;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// However a header is cut, the whole grammar's reader reads the same.
class LongHeaderTest {
    private static final String ENTRY = "{'dtype':'F32','shape':[2,3],'data_offsets':[0,24]}";
    /// What a text may hold that looks like the end of an entry, and what may lie around one.
    private static final String[] NAMES = {"n", "},", "a},", "{", "}", "},{", ",", "", "x".repeat(300)};

    @TempDir Path folder;

    private static byte[] bytes(String text) {
        return text.replace('\'', '"').getBytes(StandardCharsets.UTF_8);
    }

    private static ParsedHeader parse(byte[] header, int parts) throws IOException {
        return LongHeader.parse((start, end, arena) -> (index, target, offset, count) -> {
            if (index < start || index + count > end) {
                throw new AssertionError(count + " bytes at " + index + ": asked for " + start + " to " + end);
            }
            System.arraycopy(header, Math.toIntExact(index), target, offset, count);
        }, header.length, parts);
    }

    private static ParsedHeader whole(byte[] header) throws HeaderJsonException {
        return HeaderJson.parse(new HeaderText(MemorySegment.ofArray(header)));
    }

    private static String entries(int count) {
        StringBuilder header = new StringBuilder("{'__metadata__':{'format':'pt'}");
        for (int i = 0; i < count; i++) {
            header.append(",'layer.").append(i).append("':").append(ENTRY);
        }
        return header.toString();
    }

    @ParameterizedTest
    @ValueSource(ints = {2, 3, 4, 7})
    void partsAreTheWhole(int parts) throws IOException, HeaderJsonException {
        for (String end : new String[] {"}", "}      "}) {
            byte[] header = bytes(entries(3000) + end);
            ParsedHeader found = parse(header, parts);
            assertNotNull(found);
            assertEquals(whole(header), found);
        }
    }

    @Test
    void nothingIsReadDifferentlyWhereverTheCutsAre() throws IOException, HeaderJsonException {
        long seed = System.nanoTime();
        Random random = new Random(seed);
        int read = 0;
        for (int round = 0; round < 3000; round++) {
            StringBuilder text = new StringBuilder("{");
            int count = 1 + random.nextInt(12);
            for (int i = 0; i < count; i++) {
                text.append(i == 0 ? "" : ",").append(random.nextInt(20) == 0 ? " " : "").append("'")
                        .append(NAMES[random.nextInt(NAMES.length)]).append(random.nextBoolean() ? i : "")
                        .append("':").append(ENTRY);
            }
            byte[] header = bytes(text + "}");
            ParsedHeader found = parse(header, 2 + random.nextInt(4));
            if (found != null) {
                read++;
                assertEquals(whole(header), found, "seed " + seed + ": " + text);
            }
        }
        assertTrue(read > 300, "seed " + seed + ": " + read + " were read");
    }

    @Test
    void whatIsBrokenOrUnusualInAnyPartIsLeftToTheWholeGrammar() throws IOException {
        int count = 3000;
        for (int at : new int[] {0, count / 3, count / 2, count - 1}) {
            String name = "'layer." + at + "':";
            String[] others = {"'layer.é':", "'layer." + at + "'", "'layer." + at + "':'},':", "}"};
            for (String other : others) {
                byte[] header = bytes(entries(count).replace(name, other) + "}");
                assertNull(parse(header, 4), other + " at " + at);
            }
        }
        assertNull(parse(bytes(entries(count)), 4), "without an end");
        assertNull(parse(bytes(entries(count) + "},"), 4), "with more behind its end");
        assertNull(parse(bytes(entries(count) + ",'__metadata__':{'format':'np'}}"), 4), "metadata twice");
    }

    /// As files have it: a header of 2 MB, of which a part's entries name what the parts before do.
    @Test
    void fileWithALongHeaderIsReadAsItIs() throws IOException {
        SafetensorsFiles.Builder builder = SafetensorsFiles.builder();
        int count = 20_000;
        for (int i = 0; i < count; i++) {
            builder = builder.tensor("model.layers." + i + ".weight", DType.U8, new long[] {1 + i % 3}, i);
        }
        try (CheckpointFile file = CheckpointFile.open(builder.write(folder, "long.safetensors"))) {
            SafetensorsHeader header = HeaderReader.read(file);
            assertTrue(header.dataOffset() > LongHeader.MIN_BYTES, header.dataOffset() + " bytes");
            assertEquals(count, header.tensors().size());
            long offset = header.dataOffset();
            for (int i = 0; i < count; i++) {
                TensorEntry entry = header.tensors().get(i);
                assertEquals("model.layers." + i + ".weight", entry.name());
                assertEquals(offset, entry.fileOffset());
                offset += 1 + i % 3;
            }
        }
    }

    @Test
    void errorOfTheFirstPartThatFailsIsToldOnceNobodyReadsAnyMore() {
        byte[] header = bytes(entries(3000) + "}");
        AtomicLong underWay = new AtomicLong();
        FileException failure = assertThrows(FileException.class, () -> LongHeader.parse((start, end, arena) ->
                (index, target, offset, count) -> {
                    underWay.incrementAndGet();
                    try {
                        if (start >= header.length / 2) {
                            throw new FileException(Path.of("long"), 5, start < header.length * 3 / 4 ? "3" : "4");
                        }
                        System.arraycopy(header, Math.toIntExact(index), target, offset, count);
                    } finally {
                        underWay.decrementAndGet();
                    }
                }, header.length, 4));
        assertEquals("long: 3", failure.getMessage());
        assertEquals(0, underWay.get());
    }
}
