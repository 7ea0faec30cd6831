package io.instanttensor.file;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import tools.jackson.core.JacksonException;
import tools.jackson.core.JsonParser;
import tools.jackson.core.JsonToken;
import tools.jackson.core.ObjectReadContext;
import tools.jackson.core.StreamReadConstraints;
import tools.jackson.core.TokenStreamFactory;
import tools.jackson.core.exc.JacksonIOException;
import tools.jackson.core.exc.UnexpectedEndOfInputException;
import tools.jackson.core.json.JsonFactory;
import tools.jackson.core.json.JsonReadFeature;

/// A `*.safetensors.index.json`: which file of its own folder holds which tensor.
///
/// @param fileByTensor its `weight_map`, in its order; the files lie beside the index or below it, and need
///     not exist
record CheckpointIndex(Path path, Map<String, Path> fileByTensor) {
    static final String SUFFIX = ".safetensors.index.json";
    /// As long as the longest header of a single file: an index says less of each tensor than headers do.
    private static final long MAX_INDEX_BYTES = 100_000_000;
    /// A file system takes no longer path, and no tensor's name comes near.
    private static final int MAX_TEXT_CHARS = 1_000_000;
    private static final int MAX_DEPTH = 127;

    private static final JsonFactory JSON = JsonFactory.builder()
            .disable(TokenStreamFactory.Feature.CANONICALIZE_PROPERTY_NAMES)
            .disable(TokenStreamFactory.Feature.INTERN_PROPERTY_NAMES)
            .streamReadConstraints(StreamReadConstraints.builder()
                    .maxDocumentLength(MAX_INDEX_BYTES)
                    .maxNameLength(MAX_TEXT_CHARS)
                    .maxStringLength(MAX_TEXT_CHARS)
                    .maxNestingDepth(MAX_DEPTH)
                    .build())
            // Python writes NaN where there is none, and nothing here asks for numbers.
            .enable(JsonReadFeature.ALLOW_NON_NUMERIC_NUMBERS)
            .build();

    CheckpointIndex {
        fileByTensor = Collections.unmodifiableMap(fileByTensor);
    }

    /// @throws FileException where it cannot be read
    /// @throws MalformedIndexException where it is no index, or names a file outside its folder
    static CheckpointIndex read(Path path) throws IOException {
        try (InputStream bytes = new ToldReads(path, Files.newInputStream(path));
                JsonParser json = JSON.createParser(ObjectReadContext.empty(), bytes)) {
            return new CheckpointIndex(path, weightMap(path, json));
        } catch (JacksonIOException e) {
            throw PathErrors.of(path, e.getCause());
        } catch (UnexpectedEndOfInputException e) {
            // Its own message is about the parser's buffers.
            throw new MalformedIndexException(path, "expected an index in JSON, found the end of the file within it");
        } catch (JacksonException e) {
            // A limit that was passed has no place.
            String place = e.getLocation() == null ? "" : " at line " + e.getLocation().getLineNr() + ", column "
                    + e.getLocation().getColumnNr();
            throw new MalformedIndexException(
                    path, "expected an index in JSON" + place + ": " + e.getOriginalMessage());
        } catch (MalformedIndexException e) {
            throw e;
        } catch (IOException e) {
            throw PathErrors.of(path, e);
        }
    }

    private static Map<String, Path> weightMap(Path index, JsonParser json) throws MalformedIndexException {
        if (json.nextToken() != JsonToken.START_OBJECT) {
            throw new MalformedIndexException(index, "expected a JSON object, found something else");
        }
        Map<String, Path> fileByTensor = new LinkedHashMap<>();
        for (String field = json.nextName(); field != null; field = json.nextName()) {
            JsonToken value = json.nextToken();
            if (!field.equals("weight_map")) {
                json.skipChildren();
            } else if (value == JsonToken.START_OBJECT) {
                readFiles(index, json, fileByTensor);
            } else {
                throw new MalformedIndexException(
                        index, "expected weight_map to be an object of names and files, found " + value);
            }
        }
        if (json.nextToken() != null) {
            throw new MalformedIndexException(index, "expected one JSON object, found more behind it");
        }
        if (fileByTensor.isEmpty()) {
            throw new MalformedIndexException(index, "expected a weight_map that names files, found none");
        }
        return fileByTensor;
    }

    private static void readFiles(Path index, JsonParser json, Map<String, Path> fileByTensor)
            throws MalformedIndexException {
        Map<String, Path> known = new HashMap<>();
        for (String tensor = json.nextName(); tensor != null; tensor = json.nextName()) {
            if (json.nextToken() != JsonToken.VALUE_STRING) {
                throw new MalformedIndexException(
                        index, "tensor " + tensor + ": expected a file name, found " + json.currentToken());
            }
            String name = json.getString();
            Path file = known.get(name);
            if (file == null) {
                file = besideIndex(index, tensor, name);
                known.put(name, file);
            }
            fileByTensor.put(tensor, file);
        }
    }

    /// An index comes with a download: it must not make us open files anywhere else.
    private static Path besideIndex(Path index, String tensor, String name) throws MalformedIndexException {
        try {
            Path file = Path.of(name);
            boolean climbs = false;
            for (Path element : file) {
                climbs |= element.toString().equals("..");
            }
            Path inside = file.normalize();
            if (!file.isAbsolute() && !climbs && !inside.toString().isEmpty()) {
                return index.resolveSibling(inside);
            }
        } catch (InvalidPathException e) {
            // No file can have such a name; the message below says so.
        }
        throw new MalformedIndexException(index, printable(
                "tensor " + tensor + ": expected a file in the index's folder, found \"" + name + "\""));
    }

    /// JSON can say half a character, which nobody could print.
    private static String printable(String text) {
        return new String(text.getBytes(StandardCharsets.UTF_8), StandardCharsets.UTF_8);
    }
}
