package io.instanttensor.bridge;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import io.instanttensor.header.Catalogue;
import io.instanttensor.header.DType;
import io.instanttensor.header.SafetensorsHeader;
import io.instanttensor.header.Shape;
import io.instanttensor.header.TensorEntry;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class CatalogueBlockTest {
    private static final List<SafetensorsHeader> OF_ASCII_NAMES = headers(true);
    private static final List<SafetensorsHeader> OF_ANY_NAMES = headers(false);

    private static List<SafetensorsHeader> headers(boolean asciiNames) {
        return List.of(new SafetensorsHeader(Path.of("model.safetensors"), 8, 8, null, List.of(), asciiNames));
    }

    @Test
    void columnsThenKindsThenNames() {
        CatalogueBlock block = CatalogueBlock.of(new Catalogue(OF_ANY_NAMES, List.of(
                new Catalogue.Located(0, new TensorEntry("wé", DType.BF16, Shape.of(2, 3), 100, 12)),
                new Catalogue.Located(1, new TensorEntry("", DType.U64, Shape.of(), 80, 8)),
                new Catalogue.Located(1, new TensorEntry("s", DType.F32, Shape.of(2, 3), 112, 24)),
                new Catalogue.Located(1, new TensorEntry("t", DType.BF16, Shape.of(2, 3), 136, 12)),
                new Catalogue.Located(1, new TensorEntry("a𝄞", DType.BOOL, Shape.of(7, 0, -1), 88, 0))), Map.of()));
        byte[] names = "wé\0\0s\0t\0a𝄞".getBytes(StandardCharsets.UTF_8);
        long[] words = {
            5, 4, 7, names.length,
            0, 1, 2, 0, 3,
            3, 4, 6, 8, 14,
            DType.BF16.ordinal(), DType.U64.ordinal(), DType.F32.ordinal(), DType.BOOL.ordinal(),
            12, 8, 24, 0,
            2, 0, 2, 3,
            2, 3, 2, 3, 7, 0, -1
        };
        assertEquals(words.length * 8L + names.length, block.bytes());
        MemorySegment found = MemorySegment.ofAddress(block.address()).reinterpret(block.bytes());
        assertEquals(0, found.address() % 8);
        assertArrayEquals(words, found.asSlice(0, words.length * 8L).toArray(ValueLayout.JAVA_LONG));
        assertArrayEquals(names, found.asSlice(words.length * 8L).toArray(ValueLayout.JAVA_BYTE));
        block.free();
        block.free();
    }

    /// Names go through buffers, and a character beyond ASCII makes the first guess of their size wrong.
    @ParameterizedTest
    @ValueSource(strings = {"w", "é", "試", "𝄞", "w𝄞", "ww𝄞é"})
    void namesOfAnyLengthArriveWhole(String characters) {
        List<Catalogue.Located> tensors = new ArrayList<>();
        StringBuilder joined = new StringBuilder();
        for (int length : new int[] {0, 1, 1023, 1024, 1025, 3, 40_000, 16_384, 0}) {
            String name = characters.repeat(length);
            joined.append(tensors.isEmpty() ? "" : "\0").append(name);
            tensors.add(new Catalogue.Located(0, new TensorEntry(name, DType.U8, Shape.of(1), tensors.size(), 1)));
        }
        List<SafetensorsHeader> headers = characters.equals("w") ? OF_ASCII_NAMES : OF_ANY_NAMES;
        CatalogueBlock block = CatalogueBlock.of(new Catalogue(headers, tensors, Map.of()));
        byte[] names = joined.toString().getBytes(StandardCharsets.UTF_8);
        MemorySegment found = MemorySegment.ofAddress(block.address()).reinterpret(block.bytes());
        assertEquals(names.length, found.get(ValueLayout.JAVA_LONG, 24));
        assertArrayEquals(names, found.asSlice(block.bytes() - names.length).toArray(ValueLayout.JAVA_BYTE));
        block.free();
    }

    @Test
    void emptyCatalogueIsFourWords() {
        CatalogueBlock block = CatalogueBlock.of(new Catalogue(List.of(), List.of(), Map.of()));
        assertEquals(32, block.bytes());
        assertArrayEquals(new long[4], MemorySegment.ofAddress(block.address()).reinterpret(32)
                .toArray(ValueLayout.JAVA_LONG));
        block.free();
    }
}
