package io.instanttensor.plan;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.instanttensor.header.Catalogue;
import io.instanttensor.header.HeaderReader;
import io.instanttensor.header.SafetensorsHeader;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class SelectionTest {
    private static SafetensorsHeader header(String file) throws IOException {
        String text = """
                {"%s0":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},\
                "%s1":{"dtype":"U8","shape":[5],"data_offsets":[3,8]}}""".formatted(file, file);
        return HeaderReader.parse(Path.of(file), text.getBytes(StandardCharsets.UTF_8), 8);
    }

    private static Catalogue catalogue() throws IOException {
        return Catalogue.of(List.of(header("a"), header("b")), Map.of());
    }

    @Test
    void allOfACheckpointIsEveryTensorInItsOrder() throws IOException {
        Selection all = Selection.all(catalogue());
        assertEquals(List.of(0, 1, 2, 3), all.ranges().stream().map(Wanted::tensor).toList());
        assertEquals(16, all.bytes());
        assertEquals(5, all.largestBytes());
        assertEquals(List.of(0, 2), all.firstOfFiles().stream().map(Wanted::tensor).toList());
    }

    @Test
    void someAreThoseThatWereAskedFor() throws IOException {
        Selection some = Selection.of(catalogue(), new int[] {0, 3});
        assertEquals(List.of(0, 3), some.ranges().stream().map(Wanted::tensor).toList());
        assertEquals(8, some.bytes());
        assertEquals(List.of(0, 1), some.firstOfFiles().stream().map(Wanted::file).toList());
    }

    @Test
    void nothingHasNoBytesAndNoFiles() {
        assertEquals(new Selection(Ranges.of(List.of()), 0, 0, List.of()), Selection.of(Ranges.of(List.of())));
    }

    @Test
    void bytesThatNoNumberCanSayAreRefused() {
        Wanted half = new Wanted(0, 0, 0, Long.MAX_VALUE, 1);
        assertThrows(ArithmeticException.class, () -> Selection.of(Ranges.of(List.of(half, half))));
    }
}
