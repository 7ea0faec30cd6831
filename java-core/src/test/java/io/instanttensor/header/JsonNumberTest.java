package io.instanttensor.header;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class JsonNumberTest {
    /// What the reference said to each of these.
    @ParameterizedTest
    @CsvSource({
        "0, true", "-0, true", "1e308, true", "1e309, false", "-1e309, false", "1e400, false", "0e400, true",
        "0.000E+99999999999, true", "1e-99999999999, true", "1e99999999999, false", "0.001e310, true",
        "1.7976931348623157e308, true", "1.7976931348623158e308, false", "1.79769313486231580e308, true",
        "1.797693134862315807e308, false", "18446744073709551615, true", "18446744073709551616, true",
        "18446744073709551616.5e10, true", "1844674407370955161699e288, false", "0.5, true", "5E-1, true",
    })
    void aNumberIsFiniteWhereTheReferenceSaysSo(String number, boolean finite) {
        char[] chars = ("x" + number + "y").toCharArray();

        assertEquals(finite, JsonNumber.finite(chars, 1, number.length()));
    }

    @Test
    void integersOfHundredsOfDigitsAreJudgedByTheirSize() {
        assertEquals(true, JsonNumber.finite("1".repeat(309).toCharArray(), 0, 309));
        assertEquals(false, JsonNumber.finite("9".repeat(309).toCharArray(), 0, 309));
        assertEquals(false, JsonNumber.finite("1".repeat(310).toCharArray(), 0, 310));
    }

    @Test
    void theLastDigitOfSixtyFourBitsIsTakenAndNoMore() {
        assertEquals(true, JsonNumber.takesDigit(Long.parseUnsignedLong("1844674407370955161"), 5));
        assertEquals(false, JsonNumber.takesDigit(Long.parseUnsignedLong("1844674407370955161"), 6));
        assertEquals(false, JsonNumber.takesDigit(Long.parseUnsignedLong("1844674407370955162"), 0));
        assertEquals(false, JsonNumber.takesDigit(-1, 0));
    }
}
