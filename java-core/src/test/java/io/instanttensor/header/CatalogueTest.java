package io.instanttensor.header;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// What all tensors come to, and what ranks that load together compare.
class CatalogueTest {
    private static final String FIRST = "{'__metadata__':{'format':'pt'},"
            + "'a':{'dtype':'F32','shape':[2,3],'data_offsets':[0,24]},"
            + "'b':{'dtype':'F32','shape':[1],'data_offsets':[24,28]}}";
    private static final String SECOND = "{'c':{'dtype':'I8','shape':[28],'data_offsets':[0,28]}}";

    private static Catalogue of(Map<String, Path> owners, String folder, String... headers) throws IOException {
        List<SafetensorsHeader> read = new ArrayList<>();
        for (String header : headers) {
            byte[] text = header.replace('\'', '"').getBytes(StandardCharsets.US_ASCII);
            read.add(HeaderReader.parse(Path.of(folder, Integer.toString(read.size())), text, 28));
        }
        return Catalogue.of(read, owners);
    }

    @Test
    void totalsAreOverTheTensorsThatCount() throws IOException {
        assertEquals(new Catalogue.Totals(56, 28, List.of(0, 2)), of(Map.of(), "here", FIRST, SECOND).totals());
        // An index takes both tensors of the first file from elsewhere: it has none left.
        Map<String, Path> owners = Map.of("a", Path.of("here", "1"), "b", Path.of("here", "1"));
        assertEquals(new Catalogue.Totals(56, 28, List.of(0, 2)), of(owners, "here", FIRST, FIRST, SECOND).totals());
        assertEquals(new Catalogue.Totals(0, 0, List.of()), of(Map.of(), "here").totals());
    }

    @Test
    void totalsOfFilesThatClaimTooMuchAreTheLargestNumber() {
        Catalogue.Located half = new Catalogue.Located(
                0, new TensorEntry("a", DType.U8, Shape.of(1L << 62), 0, 1L << 62));
        assertEquals(Long.MAX_VALUE, new Catalogue(List.of(), List.of(half, half), Map.of()).totals().bytes());
    }

    private static long fingerprint(String... headers) throws IOException {
        return of(Map.of(), "here", headers).fingerprint();
    }

    @Test
    void fingerprintDoesNotDependOnWhereFilesLie() throws IOException {
        assertEquals(fingerprint(FIRST, SECOND), of(Map.of(), "elsewhere", FIRST, SECOND).fingerprint());
    }

    @ParameterizedTest(name = "{0}")
    @ValueSource(strings = {
        "'format':'pt' 'format':'np'", "'__metadata__':{'format':'pt'}, ", "'a' 'z'", "[2,3] [3,2]", "[2,3] [6]",
        "F32','shape':[1] I32','shape':[1]", ",'a' , 'a'"
    })
    void fingerprintDiffersWhereAHeaderDoes(String change) throws IOException {
        String[] words = change.split(" ", 2);
        assertNotEquals(fingerprint(FIRST, SECOND), fingerprint(FIRST.replace(words[0], words[1]), SECOND));
    }

    @Test
    void fingerprintDiffersWithTheOrderOfFiles() throws IOException {
        assertNotEquals(fingerprint(FIRST, SECOND), fingerprint(SECOND, FIRST));
        assertNotEquals(fingerprint(FIRST), fingerprint(FIRST, FIRST));
    }

    @Test
    void fingerprintDiffersWhereAnIndexTakesATensorFromAnotherFile() throws IOException {
        Catalogue first = of(Map.of("c", Path.of("here", "0")), "here", SECOND, SECOND);
        Catalogue second = of(Map.of("c", Path.of("here", "1")), "here", SECOND, SECOND);
        assertEquals(first.tensors().size(), second.tensors().size());
        assertNotEquals(first.fingerprint(), second.fingerprint());
    }
}
