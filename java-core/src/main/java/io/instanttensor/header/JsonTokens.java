package io.instanttensor.header;

import tools.jackson.core.JsonParser;
import tools.jackson.core.JsonToken;
import tools.jackson.core.SerializableString;

/// Jackson's tokens, with what the reference checks in each of them and Jackson does not: halves of
/// surrogate pairs written as escapes, numbers that become infinite, integers of 64 bits without a sign.
final class JsonTokens {
    private final JsonParser json;
    private final boolean escapes;

    /// @param json stays the caller's to close
    /// @param escapes whether its text has any
    JsonTokens(JsonParser json, boolean escapes) {
        this.json = json;
        this.escapes = escapes;
    }

    /// Null at the end of the text.
    JsonToken next() {
        return json.nextToken();
    }

    JsonToken current() {
        return json.currentToken();
    }

    /// The next field's name; null at the object's end.
    String nextName() throws HeaderJsonException {
        json.nextToken();
        return nameOrNull();
    }

    /// Whether a field of this name is next. Without a text for each of the names that every entry has.
    ///
    /// Where it is not, [#nameOrNull] says what is.
    boolean nextNameIs(SerializableString name) {
        return json.nextName(name);
    }

    /// The field's name that the parser stands on; null where it stands at the object's end.
    String nameOrNull() throws HeaderJsonException {
        if (json.currentToken() != JsonToken.PROPERTY_NAME) {
            return null;
        }
        requirePairs(json.currentName());
        return json.currentName();
    }

    /// The current string's text.
    String string() throws HeaderJsonException {
        String text = json.getString();
        requirePairs(text);
        return text;
    }

    /// The current token, as an unsigned number.
    ///
    /// @param field which it belongs to
    long unsigned(String field) throws HeaderJsonException {
        if (json.currentToken() != JsonToken.VALUE_NUMBER_INT) {
            throw notUnsigned(field);
        }
        char[] chars = json.getStringCharacters();
        int offset = json.getStringOffset();
        int end = offset + json.getStringLength();
        long value = 0;
        for (int i = offset; i < end; i++) {
            int digit = chars[i] - '0';
            // A minus sign is below zero here. The reference takes no -0 either.
            if (digit < 0 || !JsonNumber.takesDigit(value, digit)) {
                throw notUnsigned(field);
            }
            value = value * 10 + digit;
        }
        return value;
    }

    /// Passes over the next value, whatever it is. What it holds is checked all the same.
    void skipValue() throws HeaderJsonException {
        int depth = 0;
        do {
            switch (json.nextToken()) {
                case START_OBJECT, START_ARRAY -> depth++;
                case END_OBJECT, END_ARRAY -> depth--;
                case PROPERTY_NAME -> requirePairs(json.currentName());
                case VALUE_STRING -> {
                    if (escapes) {
                        requirePairs(json.getString());
                    }
                }
                case VALUE_NUMBER_INT, VALUE_NUMBER_FLOAT -> requireFinite();
                default -> { }
            }
        } while (depth > 0);
    }

    /// The error for a token that is not the one the format wants.
    HeaderJsonException expected(String what) {
        return expected(what, describe());
    }

    HeaderJsonException expected(String what, String found) {
        return new HeaderJsonException(
                json.currentTokenLocation().getCharOffset(), "expected " + what + ", found " + found);
    }

    private HeaderJsonException notUnsigned(String field) {
        return expected(field + " to hold integers from 0 to 2^64 - 1");
    }

    private void requireFinite() throws HeaderJsonException {
        if (!JsonNumber.finite(json.getStringCharacters(), json.getStringOffset(), json.getStringLength())) {
            throw expected("a number that a double can hold");
        }
    }

    /// UTF-8 has no halves of pairs, so one can only have come from an escape like `\ud800`.
    private void requirePairs(String text) throws HeaderJsonException {
        if (!escapes) {
            return;
        }
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (Character.isSurrogate(c)) {
                boolean pair = i + 1 < text.length() && Character.isSurrogatePair(c, text.charAt(i + 1));
                if (!pair) {
                    throw expected("text", String.format("half a surrogate pair, \\u%04x", Integer.valueOf(c)));
                }
                i++;
            }
        }
    }

    private String describe() {
        return switch (json.currentToken()) {
            case null -> "the end of the header";
            case START_OBJECT -> "an object";
            case START_ARRAY -> "an array";
            case END_OBJECT -> "the end of the object";
            case END_ARRAY -> "the end of the array";
            case VALUE_STRING, PROPERTY_NAME -> Words.quoted(json.getString());
            case VALUE_NUMBER_INT, VALUE_NUMBER_FLOAT -> Words.clipped(json.getString());
            case JsonToken other -> other.asString();
        };
    }
}
