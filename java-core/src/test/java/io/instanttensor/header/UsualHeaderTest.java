package io.instanttensor.header;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.instanttensor.file.FileException;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// Whatever it reads, the whole grammar's reader reads the same; whatever else there is, it gives up.
class UsualHeaderTest {
    private static final String ENTRY = "{'dtype':'F32','shape':[2,3],'data_offsets':[0,24]}";
    /// One name begins like the other.
    private static final String FP8 = "{'dtype':'F8_E4M3','shape':[1],'data_offsets':[0,1]}";
    private static final String FP8_FNUZ = "{'dtype': 'F8_E4M3FNUZ','shape':[1],'data_offsets':[0,1]}";
    private static final String[] SCRAPS = {
        "\"", "\\", "{", "}", "[", "]", ",", ":", " ", "\n", "\0", "0", "-1", "1e3", "9999999999999999999", "null",
        "é", "\\u0041", "\"dtype\"", "\"shape\":[1]", "\"extra\":7,", "\"__metadata__\":{}", "F32", "[[", "]]",
        "\u007f"
    };

    private static byte[] bytes(String text) {
        return text.replace('\'', '"').getBytes(StandardCharsets.UTF_8);
    }

    private static ParsedHeader usual(byte[] header) {
        try {
            return UsualHeader.parse(
                    (index, target, offset, count) ->
                            System.arraycopy(header, Math.toIntExact(index), target, offset, count),
                    header.length);
        } catch (FileException e) {
            throw new AssertionError(e);
        }
    }

    private static ParsedHeader whole(byte[] header) throws HeaderJsonException {
        HeaderText text = new HeaderText(MemorySegment.ofArray(header));
        assertEquals(-1, text.firstInvalidByte());
        return HeaderJson.parse(text);
    }

    private static void assertReadsTheSame(byte[] header) throws HeaderJsonException {
        ParsedHeader found = usual(header);
        assertNotNull(found);
        assertEquals(whole(header), found);
    }

    @Test
    void typeThatNobodyKnowsIsNoTypeThatIsMissing() {
        assertNull(usual(bytes("{'a':{'dtype':'XX','dtype':'F32','shape':[1],'data_offsets':[0,4]}}")));
    }

    @ParameterizedTest
    @ValueSource(strings = {
        "{}", " { } ", "{'a':" + ENTRY + "}", "{'a':" + ENTRY + "}   ",
        "{'__metadata__':{},'a':" + ENTRY + "}", "{'a':" + ENTRY + ",'__metadata__':{'format':'pt','':''}}",
        "{'a' : {'data_offsets' : [ 0 , 24 ], 'dtype' : 'F32', 'shape' : [ 2 , 3 ]}, 'b': " + ENTRY + "}",
        "{'a':{'shape':[],'dtype':'F4','data_offsets':[1,1]}}", "{'':{'dtype':'I64','shape':[0],'data_offsets':[0,0]}}",
        "{'a':" + ENTRY + ",'b':" + ENTRY + ",'a':{'dtype':'U8','shape':[1,1,1,1,1,1,1,1],'data_offsets':[7,8]}}",
        "{'a':{'dtype':'U8','shape':[999999999999999999],'data_offsets':[0,999999999999999999]}}",
        "{'a':" + ENTRY + ",'\u007f':" + ENTRY + "}",
        "{'a':" + FP8 + ",'b':" + FP8 + ",'c':" + FP8_FNUZ + ",'d':" + FP8 + ",'e':" + ENTRY + ",'f':" + FP8 + "}"
    })
    void usualHeadersAreReadAsTheWholeGrammarReadsThem(String header) throws HeaderJsonException {
        assertReadsTheSame(bytes(header));
    }

    @ParameterizedTest
    @ValueSource(strings = {
        "", " ", "[]", "{", "{'a'}", "{'a':" + ENTRY, "{'a':" + ENTRY + ",}", "{'a':" + ENTRY + "}}", "{}\0", "{}\n",
        "\ufeff{}",
        "{'é':" + ENTRY + "}", "{'\\u0061':" + ENTRY + "}", "{'a\n':" + ENTRY + "}", "{'a':['F32',[2,3],[0,24]]}",
        "{'__metadata__':null}", "{'__metadata__':{},'__metadata__':{}}", "{'__metadata__':{'a':1}}",
        "{'a':" + FP8 + ",'b':{'dtype':'F8_E4M3X','shape':[],'data_offsets':[1,2]}}",
        "{'a':{'dtype':'F33','shape':[],'data_offsets':[0,4]}}",
        "{'a':{'dtype':{'F32':null},'shape':[],'data_offsets':[0,4]}}",
        "{'a':{'dtype':'F32','shape':[01],'data_offsets':[0,4]}}",
        "{'a':{'dtype':'F32','shape':[-0],'data_offsets':[0,4]}}",
        "{'a':{'dtype':'F32','shape':[1.0],'data_offsets':[0,4]}}",
        "{'a':{'dtype':'F32','shape':[],'data_offsets':[0,4,5]}}", "{'a':{'dtype':'F4','shape':[],'data_offsets':[1,0]}}",
        "{'a':{'dtype':'U8','shape':[1000000000000000000],'data_offsets':[0,1]}}", "{'a':{'dtype':'F32','shape':[]}}",
        "{'a':{'dtype':'U8','shape':[1,1,1,1,1,1,1,1,1],'data_offsets':[0,1]}}", "{'a':{}}",
        "{'a':{'dtype':'F32','dtype':'F32'}}",
        "{'a':{'dtype':'F32','shape':[],'data_offsets':[0,4],'more':1}}",
        "{'a':{'dtype':'F32','shape':[],'data_offsets':[0,4],'data_offsets':[0,4]}}"
    })
    void unusualHeadersAreLeftToTheWholeGrammar(String header) {
        assertNull(usual(bytes(header)));
    }

    @Test
    void headersAreReadPieceByPieceWhereverAnEntryIsCut() throws HeaderJsonException {
        StringBuilder header = new StringBuilder("{");
        for (int i = 0; header.length() < 3 * UsualHeader.WINDOW_BYTES; i++) {
            header.append(i == 0 ? "" : ",").append("'layer.")
                    .append("x".repeat(i % 301)).append(i).append("':").append(ENTRY);
        }
        assertReadsTheSame(bytes(header + "}"));
        assertReadsTheSame(bytes(header + "}" + " ".repeat(2 * UsualHeader.WINDOW_BYTES)));
        assertNull(usual(bytes(header + "}" + " ".repeat(UsualHeader.WINDOW_BYTES) + "\0")));
        assertNull(usual(bytes(header + "}\0" + " ".repeat(2 * UsualHeader.WINDOW_BYTES))));
        assertNull(usual(bytes(header + ",'" + "n".repeat(UsualHeader.WINDOW_BYTES) + "':" + ENTRY + "}")));
    }

    @Test
    void whateverChangesInAHeaderNoneIsReadDifferently() {
        long seed = System.nanoTime();
        Random random = new Random(seed);
        int read = 0;
        int left = 0;
        for (int round = 0; round < 20_000; round++) {
            byte[] header = changed(random, someHeader(random));
            ParsedHeader found = usual(header);
            if (found == null) {
                left++;
                continue;
            }
            read++;
            String text = "seed " + seed + ": " + new String(header, StandardCharsets.UTF_8);
            try {
                assertEquals(whole(header), found, text);
            } catch (HeaderJsonException e) {
                throw new AssertionError(text, e);
            }
        }
        assertTrue(read > 1_000 && left > 1_000, "seed " + seed + ": " + read + " read, " + left + " left");
    }

    private static byte[] someHeader(Random random) {
        List<String> members = new ArrayList<>();
        if (random.nextInt(3) == 0) {
            members.add("'__metadata__':{'format':'pt'}");
        }
        for (int i = random.nextInt(4); i >= 0; i--) {
            List<String> fields = new ArrayList<>(List.of(
                    "'dtype':'" + DType.values()[random.nextInt(DType.values().length)] + "'",
                    "'shape':" + random.ints(random.nextInt(4), 0, 300).boxed().toList(),
                    "'data_offsets':[" + random.nextInt(99) + ","
                            + random.nextLong(1L << random.nextInt(1, 63)) + "]"));
            Collections.shuffle(fields, random);
            members.add("'t" + random.nextInt(3) + "':{"
                    + String.join(random.nextBoolean() ? "," : ", ", fields) + "}");
        }
        return bytes("{" + String.join(",", members) + "}" + " ".repeat(random.nextInt(3)));
    }

    /// Bytes taken away, doubled, changed, and scraps of JSON put between.
    private static byte[] changed(Random random, byte[] header) {
        byte[] bytes = header;
        for (int i = random.nextInt(3); i > 0 && bytes.length > 0; i--) {
            int at = random.nextInt(bytes.length);
            int to = random.nextInt(4) == 0 ? Math.min(bytes.length, at + random.nextInt(12)) : at;
            byte[] scrap = random.nextBoolean()
                    ? SCRAPS[random.nextInt(SCRAPS.length)].getBytes(StandardCharsets.UTF_8)
                    : Arrays.copyOfRange(bytes, at, Math.min(bytes.length, at + random.nextInt(40)));
            byte[] next = Arrays.copyOf(bytes, bytes.length - (to - at) + scrap.length);
            System.arraycopy(scrap, 0, next, at, scrap.length);
            System.arraycopy(bytes, to, next, at + scrap.length, bytes.length - to);
            bytes = next;
        }
        return bytes;
    }

    @Test
    void ofEqualNamesAllAreFoundAlsoWhereHashesAreEqual() {
        List<String> names = List.of("AaAa", "x", "BBBB", "AaBB", "x", "AaAa", "y", "AaAa");
        List<int[]> same = SameNames.of(names.size(), names::get);
        assertEquals(List.of("[1, 4]", "[0, 5, 7]"), same.stream().map(Arrays::toString).toList());
    }
}
