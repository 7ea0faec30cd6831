package io.instanttensor.header;

/// Numbers as the reference's JSON reader takes them. It refuses a number that becomes infinite, also in
/// a field that nobody reads, and it gets there by arithmetic of its own: up to 64 bits of digits, then
/// times or over one power of ten. Near the largest double that differs from correct rounding, so the same
/// is done here, and two readers agree on every file.
final class JsonNumber {
    private static final int LARGEST_POWER = 308;

    private JsonNumber() {}

    /// Whether `value * 10 + digit` still fits 64 bits.
    static boolean takesDigit(long value, int digit) {
        int order = Long.compareUnsigned(value, 1_844_674_407_370_955_161L);
        return order < 0 || order == 0 && digit <= 5;
    }

    /// Whether the reference can hold it.
    ///
    /// @param chars from `offset` on, `length` of them: a number of JSON's grammar
    static boolean finite(char[] chars, int offset, int length) {
        int end = offset + length;
        int at = chars[offset] == '-' ? offset + 1 : offset;
        long significand = 0;
        long exponent = 0;
        boolean fraction = false;
        boolean full = false;
        for (; at < end && chars[at] != 'e' && chars[at] != 'E'; at++) {
            if (chars[at] == '.') {
                fraction = true;
                full = false;
                continue;
            }
            int digit = chars[at] - '0';
            full |= !takesDigit(significand, digit);
            if (!full) {
                significand = significand * 10 + digit;
                exponent -= fraction ? 1 : 0;
            } else if (!fraction) {
                exponent++;
            }
        }
        if (at == end) {
            return scaled(significand, exponent);
        }
        at++;
        boolean negative = chars[at] == '-';
        at += negative || chars[at] == '+' ? 1 : 0;
        long written = 0;
        for (; at < end; at++) {
            written = written * 10 + (chars[at] - '0');
            if (written > Integer.MAX_VALUE) {
                return significand == 0 || negative;
            }
        }
        return scaled(significand, negative ? exponent - written : exponent + written);
    }

    private static boolean scaled(long significand, long exponent) {
        if (exponent <= 0 || significand == 0) {
            return true;
        }
        return exponent <= LARGEST_POWER
                && !Double.isInfinite(toDouble(significand) * Double.parseDouble("1e" + exponent));
    }

    /// The nearest double to an unsigned number; halving keeps the lost bit, so that it rounds once.
    private static double toDouble(long unsigned) {
        return unsigned >= 0 ? unsigned : ((unsigned >>> 1) | (unsigned & 1)) * 2.0;
    }
}
