package io.instanttensor.header;

import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import tools.jackson.core.JacksonException;
import tools.jackson.core.JsonParser;
import tools.jackson.core.JsonToken;
import tools.jackson.core.ObjectReadContext;
import tools.jackson.core.StreamReadConstraints;
import tools.jackson.core.TokenStreamFactory;
import tools.jackson.core.exc.StreamConstraintsException;
import tools.jackson.core.exc.UnexpectedEndOfInputException;
import tools.jackson.core.json.JsonFactory;

/// The grammar of the header: an object of tensor names and entries, with `__metadata__` among them.
/// It takes what the reference takes, and refuses the rest.
final class HeaderJson {
    /// The reference refuses the 128th level.
    private static final int MAX_DEPTH = 127;
    /// Of one name, text or number. The reference takes what the header holds, 100 million. Here the parser
    /// keeps five bytes for a character while it reads, and the engine's heap is 256 MiB: better a plain
    /// refusal than an OutOfMemoryError that hits whoever allocates next.
    private static final int MAX_TEXT_CHARS = 20_000_000;
    static final String METADATA = "__metadata__";

    // Canonicalising and interning pay where names repeat. Here nearly every one occurs once, and looking
    // for it in a table costs more than the rest of the parse.
    private static final JsonFactory JSON = JsonFactory.builder()
            .disable(TokenStreamFactory.Feature.CANONICALIZE_PROPERTY_NAMES)
            .disable(TokenStreamFactory.Feature.INTERN_PROPERTY_NAMES)
            // The header's own limit is the document's, and its tokens'.
            .streamReadConstraints(StreamReadConstraints.builder()
                    .maxNestingDepth(MAX_DEPTH)
                    .maxNameLength(MAX_TEXT_CHARS)
                    .maxStringLength(MAX_TEXT_CHARS)
                    .maxNumberLength(MAX_TEXT_CHARS)
                    .build())
            .build();

    private final JsonTokens json;
    private final EntryJson entry;
    private final List<ParsedHeader.Tensor> tensors = new ArrayList<>();
    private Map<String, String> metadata;
    private boolean metadataSeen;

    private HeaderJson(JsonTokens json) {
        this.json = json;
        this.entry = new EntryJson(json);
    }

    /// @param text well-formed UTF-8
    static ParsedHeader parse(HeaderText text) throws HeaderJsonException {
        try (JsonParser parser = JSON.createParser(ObjectReadContext.empty(), text.reader())) {
            return parse(parser, text.escapes());
        }
    }

    private static ParsedHeader parse(JsonParser parser, boolean escapes) throws HeaderJsonException {
        try {
            return new HeaderJson(new JsonTokens(parser, escapes)).header();
        } catch (UnexpectedEndOfInputException e) {
            // Its own message is about the parser's buffers.
            throw new HeaderJsonException(Long.MAX_VALUE, "expected more JSON, found the end of the header");
        } catch (StreamConstraintsException e) {
            throw new HeaderJsonException(parser.currentLocation().getCharOffset(), "expected at most " + MAX_DEPTH
                    + " levels of objects and arrays, and " + Words.grouped(MAX_TEXT_CHARS)
                    + " characters of one text, found more");
        } catch (JacksonException e) {
            throw new HeaderJsonException(e.getLocation().getCharOffset(), "expected JSON: " + e.getOriginalMessage());
        }
    }

    private ParsedHeader header() throws HeaderJsonException {
        if (json.next() != JsonToken.START_OBJECT) {
            throw json.expected("an object of tensors");
        }
        for (String name = json.nextName(); name != null; name = json.nextName()) {
            if (name.equals(METADATA)) {
                readMetadata();
            } else {
                tensors.add(entry.read(name));
            }
        }
        if (json.next() != null) {
            throw json.expected("nothing behind the object of tensors");
        }
        return new ParsedHeader(
                metadata == null ? null : Collections.unmodifiableMap(metadata),
                LastByName.of(tensors, ParsedHeader.Tensor::name));
    }

    private void readMetadata() throws HeaderJsonException {
        if (metadataSeen) {
            throw json.expected("one " + METADATA, "a second one");
        }
        metadataSeen = true;
        JsonToken token = json.next();
        if (token == JsonToken.VALUE_NULL) {
            return;
        }
        if (token != JsonToken.START_OBJECT) {
            throw json.expected(METADATA + " to be an object");
        }
        metadata = new LinkedHashMap<>();
        for (String key = json.nextName(); key != null; key = json.nextName()) {
            if (json.next() != JsonToken.VALUE_STRING) {
                throw json.expected(METADATA + " " + Words.quoted(key) + " to be a string");
            }
            metadata.put(key, json.string());
        }
    }
}
