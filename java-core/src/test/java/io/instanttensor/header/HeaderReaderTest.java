package io.instanttensor.header;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.instanttensor.SafetensorsFiles;
import io.instanttensor.file.CheckpointFile;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/// All that the format accepts.
class HeaderReaderTest {
    @TempDir
    Path dir;

    private SafetensorsHeader read(String header, int dataBytes) throws IOException {
        return read(SafetensorsFiles.write(dir, "a", header.replace('\'', '"'), new byte[dataBytes]));
    }

    private static SafetensorsHeader read(Path path) throws IOException {
        try (CheckpointFile file = CheckpointFile.open(path)) {
            return HeaderReader.read(file);
        }
    }

    private static List<String> names(SafetensorsHeader header) {
        return header.tensors().stream().map(TensorEntry::name).toList();
    }

    @Test
    void tensorsComeWithTheirPlacesInTheFile() throws IOException {
        Path path = SafetensorsFiles.builder()
                .metadata("format", "pt")
                .tensor("b", DType.F32, new long[] {2, 3}, 1)
                .tensor("a", DType.BF16, new long[] {}, 2)
                .write(dir, "a.safetensors");

        SafetensorsHeader header = read(path);

        long dataOffset = header.dataOffset();
        assertEquals(new SafetensorsHeader(path, dataOffset + 26, dataOffset, Map.of("format", "pt"), List.of(
                new TensorEntry("b", DType.F32, Shape.of(2, 3), dataOffset, 24),
                new TensorEntry("a", DType.BF16, Shape.of(), dataOffset + 24, 2)), true), header);
    }

    @ParameterizedTest
    @ValueSource(strings = {"é", "\\u00e9", "試", "𝄞"})
    void namesThatMayHaveOtherCharactersAreNotCalledAscii(String name) throws IOException {
        String entry = "'%s':{'dtype':'U8','shape':[1],'data_offsets':[%d,%d]}";
        assertTrue(read("{%s}".formatted(entry.formatted("w", 0, 1)), 1).asciiNames());
        assertFalse(read("{%s,%s}".formatted(entry.formatted("w", 0, 1), entry.formatted(name, 1, 2)), 2).asciiNames());
    }

    @ParameterizedTest
    @EnumSource
    void everyDtypeHasItsSize(DType dtype) throws IOException {
        Path path = SafetensorsFiles.builder().tensor("a", dtype, new long[] {3, 8}, 0).write(dir, "a");

        assertEquals(3 * dtype.bits(), read(path).tensors().getFirst().bytes());
        assertEquals(dtype, read(path).tensors().getFirst().dtype());
    }

    @Test
    void nothingInItIsAFileToo() throws IOException {
        assertEquals(new SafetensorsHeader(dir.resolve("a"), 10, 10, null, List.of(), true), read("{}", 0));
        assertEquals(Map.of(), read("{'__metadata__':{}}", 0).metadata());
    }

    @Test
    void nullMetadataIsNone() throws IOException {
        assertNull(read("{'__metadata__':null}", 0).metadata());
    }

    @Test
    void ofAMetadataKeyWrittenTwiceTheLastCounts() throws IOException {
        SafetensorsHeader header = read("{'__metadata__':{'k':'1','j':'','k':'2'}}", 0);

        assertEquals(Map.of("k", "2", "j", ""), header.metadata());
        assertEquals(List.of("k", "j"), new ArrayList<>(header.metadata().keySet()));
        assertThrows(UnsupportedOperationException.class, () -> header.metadata().clear());
    }

    @ParameterizedTest
    @ValueSource(strings = {
        "{'a':{'dtype':'U8','shape':[2],'data_offsets':[0,2]}}",
        " \n\t\r{ 'a' : { 'data_offsets' : [ 0 , 2 ] , 'shape' : [ 2 ] , 'dtype' : 'U8' } } \n\t\r ",
        "{'a':{'dtype':'U8','x':[1.5e3,-0,{'y':null}],'shape':[2],'':true,'data_offsets':[0,2],'x':1}}",
        "{'a':{'x':1e-999,'y':0e999,'z':'\\ud83d\\ude00','dtype':'U8','shape':[2],'data_offsets':[0,2]}}",
        "{'\\u0061':{'\\u0064type':'\\u00558','shape':[2],'data_offsets':[0,2]}}",
        "{'a':['U8',[2],[0,2]]}",
        "{'a':{'dtype':{'U8':null},'shape':[2],'data_offsets':[0,2]}}",
        "{'a':{'dtype':'F32','shape':[7],'data_offsets':[5,1]},'a':{'dtype':'U8','shape':[2],'data_offsets':[0,2]}}",
    })
    void theseAllSayTheSame(String json) throws IOException {
        SafetensorsHeader header = read(json, 2);

        assertEquals(List.of(new TensorEntry("a", DType.U8, Shape.of(2), header.dataOffset(), 2)), header.tensors());
    }

    @Test
    void aHundredAndTwentySevenLevelsAreTaken() throws IOException {
        String nested = "[".repeat(125) + "]".repeat(125);

        assertEquals(List.of("a"),
                names(read("{'a':{'x':" + nested + ",'dtype':'U8','shape':[2],'data_offsets':[0,2]}}", 2)));
    }

    @Test
    void namesMayBeAnyText() throws IOException {
        String longName = "n".repeat(70_000);
        assertEquals(List.of("", "\u0000\n\"\\/", "__metadata", longName, "\u00e9\ud83d\ude00"),
                names(read("{'':['U8',[0],[0,0]],'\u00e9\\ud83d\\ude00':['U8',[0],[0,0]],'__metadata':['U8',[0],[0,0]],"
                        + "'\\u0000\\n\\\"\\\\\\/':['U8',[0],[0,0]],'" + longName + "':['U8',[0],[0,0]]}", 0)));
    }

    @Test
    void textAtTheSeamOfTwoPiecesIsWhole() throws IOException {
        for (int padding = 0; padding < 5; padding++) {
            // Four bytes a character, so that pieces of any even size cut one somewhere.
            String name = "n".repeat(padding) + "\ud83d\ude00".repeat(40_000);

            assertEquals(List.of(name), names(read("{'" + name + "':['U8',[0],[0,0]]}", 0)));
        }
    }

    @Test
    void emptyTensorsThatShareAnOffsetComeByName() throws IOException {
        List<String> entries = new ArrayList<>(List.of(
                "'d':['U8',[0],[0,0]]", "'b':['F32',[1],[0,4]]", "'a':['F32',[3,0],[0,0]]", "'c':['U8',[1],[4,5]]",
                "'\ud83d\ude00':['U8',[0],[5,5]]", "'\ue000':['U8',[0],[5,5]]", "'B':['U8',[0],[5,5]]"));
        Random random = new Random(3);
        for (int i = 0; i < 20; i++) {
            Collections.shuffle(entries, random);

            assertEquals(List.of("a", "b", "d", "c", "B", "\ue000", "\ud83d\ude00"),
                    names(read("{" + String.join(",", entries) + "}", 5)));
        }
    }

    @Test
    void aDimensionOfSixtyFourBitsFitsBesideAZero() throws IOException {
        Shape shape = read("{'a':['U8',[0,18446744073709551615,2],[0,0]]}", 0).tensors().getFirst().shape();

        assertEquals("[0, 18446744073709551615, 2]", shape.toString());
    }

    @Test
    void manyDimensionsAreKept() throws IOException {
        StringBuilder dims = new StringBuilder("2");
        for (int i = 0; i < 99; i++) {
            dims.append(",1");
        }

        assertEquals(100, read("{'a':['U8',[" + dims + "],[0,2]]}", 2).tensors().getFirst().shape().rank());
    }

    @Test
    void sameShapesAreOneObjectAndOthersAreNot() throws IOException {
        List<TensorEntry> tensors =
                read("{'a':['U8',[0,1],[0,0]],'b':['U8',[1,0],[0,0]],'c':['U8',[0,1],[0,0]],'d':['U8',[0],[0,0]]}", 0)
                        .tensors();

        assertEquals(List.of(Shape.of(0, 1), Shape.of(1, 0), Shape.of(0, 1), Shape.of(0)),
                tensors.stream().map(TensorEntry::shape).toList());
    }

    @Test
    void namesWithOneHashStaySeparateAndTheLastOfEachCounts() throws IOException {
        // "Aa" and "BB" have one hash, and so has every row of as many of them.
        assertEquals("AaBB".hashCode(), "BBAa".hashCode());

        assertEquals(List.of("BBAa", "AaAa", "AaBB"), names(read(
                "{'AaBB':['U8',[1],[9,9]],'BBAa':['U8',[1],[0,1]],'AaAa':['U8',[1],[7,7]],'AaBB':['U8',[1],[2,3]],"
                        + "'AaAa':['U8',[1],[1,2]]}", 3)));
    }

    @Test
    void aHeaderNeedsNoAlignment() throws IOException {
        for (int padding = 0; padding < 8; padding++) {
            Path path = SafetensorsFiles.write(
                    dir, "a", ("{}" + " ".repeat(padding)).getBytes(StandardCharsets.UTF_8), new byte[0]);

            assertEquals(10 + padding, read(path).dataOffset());
        }
    }

    @Test
    void ninetyOneThousandTensorsAreRead() throws IOException {
        StringBuilder json = new StringBuilder("{");
        for (int i = 0; i < 91_000; i++) {
            json.append(i == 0 ? "" : ",").append("'model.layers.").append(i / 1000).append(".mlp.experts.").append(i)
                    .append(".down_proj.weight':{'dtype':'BF16','shape':[1,2],'data_offsets':[").append(4L * i)
                    .append(',').append(4L * i + 4).append("]}");
        }

        SafetensorsHeader header = read(json.append('}').toString(), 4 * 91_000);

        assertEquals(91_000, header.tensors().size());
        assertEquals(new TensorEntry("model.layers.90.mlp.experts.90999.down_proj.weight", DType.BF16, Shape.of(1, 2),
                header.dataOffset() + 363_996, 4), header.tensors().getLast());
    }
}
