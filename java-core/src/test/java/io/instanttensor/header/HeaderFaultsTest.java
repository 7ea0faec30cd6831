package io.instanttensor.header;

import static io.instanttensor.header.HeaderFault.HEADER_TOO_LARGE;
import static io.instanttensor.header.HeaderFault.HEADER_TOO_SMALL;
import static io.instanttensor.header.HeaderFault.INVALID_HEADER;
import static io.instanttensor.header.HeaderFault.INVALID_HEADER_DESERIALIZATION;
import static io.instanttensor.header.HeaderFault.INVALID_HEADER_LENGTH;
import static io.instanttensor.header.HeaderFault.INVALID_OFFSET;
import static io.instanttensor.header.HeaderFault.METADATA_INCOMPLETE_BUFFER;
import static io.instanttensor.header.HeaderFault.MISALIGNED_SLICE;
import static io.instanttensor.header.HeaderFault.TENSOR_INVALID_INFO;
import static io.instanttensor.header.HeaderFault.VALIDATION_OVERFLOW;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.params.provider.Arguments.arguments;

import io.instanttensor.SafetensorsFiles;
import io.instanttensor.file.CheckpointFile;
import io.instanttensor.file.FileException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.Charset;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/// Each of the format's ten faults, with its whole message.
class HeaderFaultsTest {
    @TempDir
    Path dir;

    private void assertFault(Path path, HeaderFault fault, String detail) throws IOException {
        try (CheckpointFile file = CheckpointFile.open(path)) {
            MalformedHeaderException e =
                    assertThrows(MalformedHeaderException.class, () -> HeaderReader.read(file));

            assertEquals("Error while deserializing header: " + fault.referenceName() + ": " + path + ": " + detail,
                    e.getMessage());
            assertEquals(fault, e.fault());
        }
    }

    private Path write(byte[] content) throws IOException {
        return Files.write(dir.resolve("a"), content);
    }

    private static byte[] lengthThen(long length, int bytes) {
        return ByteBuffer.allocate(8 + bytes).order(ByteOrder.LITTLE_ENDIAN).putLong(length).array();
    }

    @Test
    void aFileShorterThanTheLengthIsTooSmall() throws IOException {
        assertFault(write(new byte[0]), HEADER_TOO_SMALL,
                "expected at least the 8 bytes of the header's length, found a file of 0");
        assertFault(write(new byte[7]), HEADER_TOO_SMALL,
                "expected at least the 8 bytes of the header's length, found a file of 7");
    }

    @Test
    void aLengthAboveTheLimitIsRefusedBeforeTheFilesEndIsLookedAt() throws IOException {
        assertFault(write(lengthThen(100_000_001, 0)), HEADER_TOO_LARGE,
                "expected a header of at most 100,000,000 bytes, found a length of 100,000,001 at offset 0");
        assertFault(write(lengthThen(-1, 0)), HEADER_TOO_LARGE, "expected a header of at most 100,000,000 bytes,"
                + " found a length of 18,446,744,073,709,551,615 at offset 0");
    }

    @Test
    void aLengthBeyondTheFilesEndIsInvalid() throws IOException {
        assertFault(write(lengthThen(100_000_000, 4)), INVALID_HEADER_LENGTH,
                "expected a header of 100,000,000 bytes at offset 8, found the file's end at 12");
        assertFault(write(lengthThen(5, 4)), INVALID_HEADER_LENGTH,
                "expected a header of 5 bytes at offset 8, found the file's end at 12");
    }

    static Stream<Arguments> headersThatAreNoUtf8() {
        return Stream.of(
                arguments("7bff7d", "0xff at offset 9"),
                arguments("7b22c08022", "0xc0 at offset 10"),
                arguments("22eda08022", "0xed at offset 9"),
                arguments("22f490808022", "0xf4 at offset 9"),
                arguments("22f09f98", "0xf0 at offset 9"),
                arguments("2222e282ac80", "0x80 at offset 13"));
    }

    @ParameterizedTest
    @MethodSource("headersThatAreNoUtf8")
    void whatIsNoUtf8IsNotParsed(String hex, String found) throws IOException {
        byte[] header = HexFormat.of().parseHex(hex);

        assertFault(SafetensorsFiles.write(dir, "a", header, new byte[0]), INVALID_HEADER,
                "expected UTF-8, found " + found);
    }

    static Stream<Arguments> headersOutsideTheSchema() {
        String shapeAndOffsets = "'shape':[1],'data_offsets':[0,1]}}";
        return Stream.of(
                arguments("", "expected an object of tensors, found the end of the header, at offset 8"),
                arguments("[]", "expected an object of tensors, found an array, at offset 8"),
                arguments("{", "expected more JSON, found the end of the header, at offset 9"),
                arguments("{}{}", "expected nothing behind the object of tensors, found an object, at offset 10"),
                arguments("{'a':1}", "tensor 'a': expected an object, found 1, at offset 13"),
                arguments("{'\u00e9\ud83d\ude00':null}",
                        "tensor '\u00e9\ud83d\ude00': expected an object, found null, at offset 18"),
                arguments("{'a':{}}", "tensor 'a': expected dtype, found none, at offset 14"),
                arguments("{'a':{'dtype':'U8','shape':[]}}",
                        "tensor 'a': expected data_offsets, found none, at offset 37"),
                arguments("{'a':{'dtype':'U8','dtype':'U8'," + shapeAndOffsets,
                        "tensor 'a': expected one dtype, found a second one, at offset 27"),
                arguments("{'a':{'dtype':'u8'," + shapeAndOffsets, "tensor 'a': expected a dtype (BOOL, F4, F6_E2M3,"
                        + " F6_E3M2, U8, I8, F8_E5M2, F8_E4M3, F8_E8M0, F8_E4M3FNUZ, F8_E5M2FNUZ, I16, U16, F16, BF16,"
                        + " I32, U32, F32, C64, F64, I64, U64), found 'u8', at offset 22"),
                arguments("{'a':{'dtype':8," + shapeAndOffsets,
                        "tensor 'a': expected a dtype, found 8, at offset 22"),
                arguments("{'a':{'dtype':{'U8':1}," + shapeAndOffsets,
                        "tensor 'a': expected nothing but a dtype and null, found 1, at offset 28"),
                arguments("{'a':{'dtype':{}," + shapeAndOffsets,
                        "tensor 'a': expected a dtype, found the end of the object, at offset 23"),
                arguments("{'a':{'shape':1}}", "tensor 'a': expected shape to be an array, found 1, at offset 22"),
                arguments("{'a':{'shape':[2.0]}}", numbers("shape", "2.0", 23)),
                arguments("{'a':{'shape':[-0]}}", numbers("shape", "-0", 23)),
                arguments("{'a':{'shape':[1e0]}}", numbers("shape", "1e0", 23)),
                arguments("{'a':{'shape':['1']}}", numbers("shape", "'1'", 23)),
                arguments("{'a':{'shape':[18446744073709551616]}}", numbers("shape", "18446744073709551616", 23)),
                arguments("{'a':{'data_offsets':{}}}",
                        "tensor 'a': expected data_offsets to be an array, found an object, at offset 29"),
                arguments("{'a':{'data_offsets':[0,-1]}}", numbers("data_offsets", "-1", 32)),
                arguments("{'a':{'data_offsets':[0]}}", numbers("data_offsets", "the end of the array", 31)),
                arguments("{'a':{'data_offsets':[0,1,2]}}",
                        "tensor 'a': expected data_offsets to have two numbers, found 2, at offset 34"),
                arguments("{'a':['U8',[],[0,1],0]}", "tensor 'a': expected three values, found 0, at offset 28"),
                arguments("{'a':{'x':1e400}}",
                        "tensor 'a': expected a number that a double can hold, found 1e400, at offset 18"),
                arguments("{'a':{'x':'\\ud800'}}",
                        "tensor 'a': expected text, found half a surrogate pair, \\ud800, at offset 18"),
                arguments("{'\\udc00':0}",
                        "expected JSON: Unexpected low surrogate in property name: 0xdc00, at offset 16"),
                arguments("{'__metadata__':1}", "expected __metadata__ to be an object, found 1, at offset 24"),
                arguments("{'__metadata__':{'k':1}}",
                        "expected __metadata__ 'k' to be a string, found 1, at offset 29"),
                arguments("{'__metadata__':null,'__metadata__':{}}",
                        "expected one __metadata__, found a second one, at offset 29"),
                arguments("{'a\\u0007':false}",
                        "tensor 'a\\u0007': expected an object, found false, at offset 19"),
                arguments("{'" + "n".repeat(250) + "':0}", "tensor '" + "n".repeat(200)
                        + "'... (50 more characters): expected an object, found 0, at offset 262"),
                arguments("{'a':{'x':" + "[".repeat(126) + "]".repeat(126) + "}}", "expected at most 127 levels of"
                        + " objects and arrays, and 20,000,000 characters of one text, found more, at offset 144"));
    }

    private static String numbers(String field, String found, int offset) {
        return "tensor 'a': expected " + field + " to hold integers from 0 to 2^64 - 1, found " + found
                + ", at offset " + offset;
    }

    @ParameterizedTest
    @MethodSource("headersOutsideTheSchema")
    void whatIsNotTheSchemaIsNamedWithItsPlace(String header, String detail) throws IOException {
        assertFault(SafetensorsFiles.write(dir, "a", header.replace('\'', '"'), new byte[1]),
                INVALID_HEADER_DESERIALIZATION, detail.replace('\'', '"'));
    }

    static Stream<byte[]> headersThatAreNoJson() {
        String entry = "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]%s}%s}%s";
        return Stream.of(
                        entry.formatted(",", "", ""), entry.formatted("", ",", ""), entry.formatted("", "", "\0"),
                        entry.formatted("", "", ","), entry.formatted("", "", "x"),
                        "\ufeff" + entry.formatted("", "", ""),
                        entry.formatted(",\"x\":\"\u0001\"", "", ""), entry.formatted(",\"x\":01", "", ""),
                        entry.formatted(",\"x\":+1", "", ""), entry.formatted(",\"x\":.5", "", ""),
                        entry.formatted(",\"x\":1.", "", ""), entry.formatted(",\"x\":NaN", "", ""),
                        entry.formatted(",\"x\":nul", "", ""), entry.formatted(",\"x\":[1,]", "", ""),
                        entry.formatted(",\"x\":'s'", "", ""), entry.formatted(",\"x\":\"\\x41\"", "", ""),
                        entry.formatted(",x:1", "", ""), entry.formatted("/**/", "", ""))
                .map(text -> text.getBytes(StandardCharsets.UTF_8));
    }

    @ParameterizedTest
    @MethodSource("headersThatAreNoJson")
    void whatIsNoJsonIsRefused(byte[] header) throws IOException {
        Path path = SafetensorsFiles.write(dir, "a", header, new byte[1]);
        try (CheckpointFile file = CheckpointFile.open(path)) {
            MalformedHeaderException e =
                    assertThrows(MalformedHeaderException.class, () -> HeaderReader.read(file));

            assertEquals(INVALID_HEADER_DESERIALIZATION, e.fault());
        }
    }

    @Test
    void otherEncodingsAreNotGuessed() throws IOException {
        for (var charset : new Charset[] {
            StandardCharsets.UTF_16LE, StandardCharsets.UTF_16BE, StandardCharsets.UTF_32LE, StandardCharsets.UTF_32BE
        }) {
            Path path = SafetensorsFiles.write(dir, "a", "{}".getBytes(charset), new byte[0]);
            try (CheckpointFile file = CheckpointFile.open(path)) {
                MalformedHeaderException e =
                        assertThrows(MalformedHeaderException.class, () -> HeaderReader.read(file));

                assertEquals(INVALID_HEADER_DESERIALIZATION, e.fault(), charset.name());
            }
        }
    }

    @Test
    void theParsersOwnWordsAreKept() throws IOException {
        assertFault(SafetensorsFiles.write(dir, "a", "{\"a\" 1}", new byte[0]), INVALID_HEADER_DESERIALIZATION,
                "expected JSON: Unexpected character ('1' (code 49)): was expecting a colon to separate property name"
                        + " and value, at offset 13");
    }

    static Stream<Arguments> layouts() {
        String max = "18446744073709551615";
        return Stream.of(
                arguments(tensor("a", "U8", "[1]", 1, 2), INVALID_OFFSET,
                        "tensor 'a': expected data_offsets to start at 0,"
                        + " as the first bytes of the data do, found [1, 2]"),
                arguments(tensor("b", "U8", "[1]", 5, 6) + "," + tensor("a", "U8", "[4]", 0, 4), INVALID_OFFSET,
                        "tensor 'b': expected data_offsets to start at 4, where the tensor before it ends,"
                                + " found [5, 6]"),
                arguments(tensor("a", "U8", "[4]", 0, 4) + "," + tensor("b", "U8", "[4]", 2, 6), INVALID_OFFSET,
                        "tensor 'b': expected data_offsets to start at 4, where the tensor before it ends,"
                                + " found [2, 6]"),
                arguments(tensor("a", "U8", "[4]", 0, 4) + "," + tensor("b", "U8", "[0]", 4, 2), INVALID_OFFSET,
                        "tensor 'b': expected data_offsets that end where they start or later, found [4, 2]"),
                arguments("'a':{'dtype':'U8','shape':[0],'data_offsets':[" + max + "," + max + "]}", INVALID_OFFSET,
                        "tensor 'a': expected data_offsets to start at 0, as the first bytes of the data do, found ["
                                + max + ", " + max + "]"),
                arguments(tensor("a", "U8", "[9223372036854775808, 2, 0]", 0, 0), VALIDATION_OVERFLOW,
                        "tensor 'a': expected a size in bits below 2^64,"
                                + " found U8 of shape [9223372036854775808, 2, 0]"),
                arguments(tensor("a", "F64", "[288230376151711744]", 0, 8), VALIDATION_OVERFLOW,
                        "tensor 'a': expected a size in bits below 2^64, found F64 of shape [288230376151711744]"),
                arguments(tensor("a", "F4", "[3, 5]", 0, 8), MISALIGNED_SLICE,
                        "tensor 'a': expected whole bytes, found F4 of shape [3, 5], 60 bits"),
                arguments(tensor("a", "F6_E2M3", "[]", 0, 1), MISALIGNED_SLICE,
                        "tensor 'a': expected whole bytes, found F6_E2M3 of shape [], 6 bits"),
                arguments(tensor("a", "F32", "[2, 300]", 0, 2399), TENSOR_INVALID_INFO,
                        "tensor 'a': expected 2,400 bytes"
                        + " for F32 of shape [2, 300], found 2,399 at data_offsets [0, 2399]"),
                arguments(tensor("a", "U8", "[2305843009213693951]", 0, 8), TENSOR_INVALID_INFO, "tensor 'a': expected"
                        + " 2,305,843,009,213,693,951 bytes for U8 of shape [2305843009213693951], found 8"
                        + " at data_offsets [0, 8]"));
    }

    private static String tensor(String name, String dtype, String shape, long start, long end) {
        return "'" + name + "':{'dtype':'" + dtype + "','shape':" + shape
                + ",'data_offsets':[" + start + "," + end + "]}";
    }

    @ParameterizedTest
    @MethodSource("layouts")
    void aTensorOutOfPlaceOrSizeIsNamed(String tensors, HeaderFault fault, String detail) throws IOException {
        assertFault(SafetensorsFiles.write(dir, "a", ("{" + tensors + "}").replace('\'', '"'), new byte[8]), fault,
                detail.replace('\'', '"'));
    }

    @Test
    void theFirstTensorAtFaultDecidesAndNotTheFirstFault() throws IOException {
        String wrongSizeThenHole = "{" + tensor("z", "U8", "[3]", 0, 4) + "," + tensor("a", "U8", "[1]", 7, 8) + "}";

        assertFault(SafetensorsFiles.write(dir, "a", wrongSizeThenHole.replace('\'', '"'), new byte[8]),
                TENSOR_INVALID_INFO,
                "tensor \"z\": expected 3 bytes for U8 of shape [3], found 4 at data_offsets [0, 4]");
    }

    @Test
    void aFileThatEndsBeforeItsDataWasCutShort() throws IOException {
        String header = "{" + tensor("a", "U8", "[1000]", 0, 1000).replace('\'', '"') + "}";

        assertFault(SafetensorsFiles.write(dir, "a", header, new byte[999]), METADATA_INCOMPLETE_BUFFER,
                "expected 1,000 bytes of data behind the header, which ends at 67, found 999: the file was cut short"
                        + " (it has 1,066 bytes)");
    }

    @Test
    void bytesBehindTheLastTensorBelongToNone() throws IOException {
        assertFault(SafetensorsFiles.write(dir, "a", "{}", new byte[3]), METADATA_INCOMPLETE_BUFFER,
                "expected 0 bytes of data behind the header, which ends at 10, found 3: the file has bytes of no tensor"
                        + " (it has 13 bytes)");
    }

    @Test
    void aNameTooLongForTheHeapIsRefusedBeforeItFillsIt() throws IOException {
        String name = "n".repeat(20_000_001);

        assertFault(SafetensorsFiles.write(dir, "a", "{\"" + name + "\":0}", new byte[0]),
                INVALID_HEADER_DESERIALIZATION, "expected at most 127 levels of objects and arrays, and 20,000,000"
                        + " characters of one text, found more, at offset 20,000,012");
    }

    @Test
    void aFileTruncatedSinceItWasOpenedIsNotAMalformedOne() throws IOException {
        Path path = SafetensorsFiles.write(dir, "a", "{}        ", new byte[0]);
        try (CheckpointFile file = CheckpointFile.open(path)) {
            Files.write(path, lengthThen(10, 2));

            FileException e = assertThrows(FileException.class, () -> HeaderReader.read(file));

            assertEquals(path + ": read 10 of 18 bytes at 0: the file ends there (it had 18 bytes when it was opened)",
                    e.getMessage());
        }
    }
}
