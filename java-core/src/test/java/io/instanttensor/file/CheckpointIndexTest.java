package io.instanttensor.file;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class CheckpointIndexTest {
    @TempDir
    Path dir;

    private Path write(String json) throws IOException {
        return Files.writeString(dir.resolve("model.safetensors.index.json"), json);
    }

    @Test
    void theWeightMapKeepsItsOrderAndTheRestIsPassedOver() throws IOException {
        CheckpointIndex index = CheckpointIndex.read(write(
                "{\"metadata\":{\"a\":[1,{}]},"
                        + "\"weight_map\":{\"b\":\"2.safetensors\",\"a\":\"x/./1.safetensors\"},\"z\":0}"));

        assertEquals(List.of("b", "a"), new ArrayList<>(index.fileByTensor().keySet()));
        assertEquals(List.of(dir.resolve("2.safetensors"), dir.resolve("x/1.safetensors")),
                new ArrayList<>(index.fileByTensor().values()));
    }

    @Test
    void longTensorNamesAreRead() throws IOException {
        String name = "n".repeat(100_000);

        assertEquals(dir.resolve("f"), CheckpointIndex.read(write("{\"weight_map\":{\"" + name + "\":\"f\"}}"))
                .fileByTensor().get(name));
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', quoteCharacter = '`', textBlock = """
            []                        | expected a JSON object, found something else
            ``                        | expected a JSON object, found something else
            {}                        | expected a weight_map that names files, found none
            {"weight_map":{}}         | expected a weight_map that names files, found none
            {"weight_map":["a"]}      | expected weight_map to be an object of names and files, found START_ARRAY
            {"weight_map":{"a":1}}    | tensor a: expected a file name, found VALUE_NUMBER_INT
            {"weight_map":{"a":"f"}}1 | expected one JSON object, found more behind it
            """)
    void anythingElseIsNamedWithWhatWasExpected(String json, String detail) throws IOException {
        Path path = write(json);

        MalformedIndexException e =
                assertThrows(MalformedIndexException.class, () -> CheckpointIndex.read(path));

        assertEquals(path + ": " + detail, e.getMessage());
    }

    @Test
    void whatIsNoJsonIsNamedWithItsPlace() throws IOException {
        Path path = write("{\"weight_map\":\n {\"a\" \"f\"}}");

        MalformedIndexException e =
                assertThrows(MalformedIndexException.class, () -> CheckpointIndex.read(path));

        assertEquals(path + ": expected an index in JSON at line 2, column 7: Unexpected character ('\"' (code 34)):"
                + " was expecting a colon to separate property name and value", e.getMessage());
    }

    @Test
    void depthHasALimit() throws IOException {
        Path path = write("{\"metadata\":" + "[".repeat(127) + "]".repeat(127) + "}");

        MalformedIndexException e =
                assertThrows(MalformedIndexException.class, () -> CheckpointIndex.read(path));

        assertEquals(path + ": expected an index in JSON: Document nesting depth (128) exceeds the maximum allowed"
                + " (127, from `StreamReadConstraints.getMaxNestingDepth()`)", e.getMessage());
    }

    @ParameterizedTest
    @ValueSource(strings = {"../x.safetensors", "/etc/passwd", "a/../x.safetensors", "", ".", "a/../../x"})
    void aFileOutsideItsFolderIsRefused(String name) throws IOException {
        Path path = write("{\"weight_map\":{\"t\":\"" + name + "\"}}");

        MalformedIndexException e =
                assertThrows(MalformedIndexException.class, () -> CheckpointIndex.read(path));

        assertEquals(path + ": tensor t: expected a file in the index's folder, found \"" + name + "\"",
                e.getMessage());
    }

    /// Half a character, which Python could not print.
    @Test
    void whatIsNoTextIsNamedAllTheSame() throws IOException {
        Path path = write("{\"weight_map\":{\"t\":\"/\\ud800\"}}");

        MalformedIndexException e =
                assertThrows(MalformedIndexException.class, () -> CheckpointIndex.read(path));

        assertEquals(path + ": tensor t: expected a file in the index's folder, found \"/?\"", e.getMessage());
    }

    @Test
    void numbersThatAreNoneDoNotMatter() throws IOException {
        Path path = write("{\"metadata\":{\"a\":NaN,\"b\":-Infinity},\"weight_map\":{\"t\":\"f\"}}");

        assertEquals(1, CheckpointIndex.read(path).fileByTensor().size());
    }

    @Test
    void aNameThatNoFileCanHaveIsRefused() throws IOException {
        Path path = write("{\"weight_map\":{\"t\":\"a\\u0000b\"}}");

        MalformedIndexException e =
                assertThrows(MalformedIndexException.class, () -> CheckpointIndex.read(path));

        assertEquals(path + ": tensor t: expected a file in the index's folder, found \"a\u0000b\"", e.getMessage());
    }
}
