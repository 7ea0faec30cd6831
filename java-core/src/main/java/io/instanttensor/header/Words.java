package io.instanttensor.header;

import java.math.BigInteger;
import java.util.Locale;

/// How messages write what came out of a file: on one line, and not a megabyte of it.
final class Words {
    private static final int MAX_CHARS = 200;

    private Words() {}

    /// In quotes, control characters escaped.
    static String quoted(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (char c : clip(text).toCharArray()) {
            if (Character.isISOControl(c)) {
                out.append(String.format("\\u%04x", Integer.valueOf(c)));
            } else {
                out.append(c);
            }
        }
        return out.append('"').append(rest(text)).toString();
    }

    /// As it is, as far as it goes.
    static String clipped(String text) {
        return clip(text) + rest(text);
    }

    private static String clip(String text) {
        return text.substring(0, Math.min(text.length(), MAX_CHARS));
    }

    private static String rest(String text) {
        return text.length() <= MAX_CHARS ? "" : "... (" + grouped(text.length() - MAX_CHARS) + " more characters)";
    }

    /// An unsigned number with its thousands apart, the same in every locale.
    static String grouped(long unsigned) {
        return String.format(Locale.ROOT, "%,d", new BigInteger(Long.toUnsignedString(unsigned)));
    }
}
