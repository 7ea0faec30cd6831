package io.instanttensor.header;

import java.util.Arrays;
import java.util.stream.Collectors;
import tools.jackson.core.JsonToken;
import tools.jackson.core.SerializableString;
import tools.jackson.core.io.SerializedString;

/// The grammar of one tensor's entry: `{"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}`, in any
/// order, with fields of any other name among them.
///
/// The reference also takes `["F32", [2, 3], [0, 24]]` for the entry and `{"F32": null}` for the dtype,
/// which is how its library reads any structure and any enum. So does this.
final class EntryJson {
    private static final String DTYPE = "dtype";
    private static final String SHAPE = "shape";
    private static final String OFFSETS = "data_offsets";
    private static final SerializableString[] USUAL_ORDER = {
        new SerializedString(DTYPE), new SerializedString(SHAPE), new SerializedString(OFFSETS)
    };
    private static final String DTYPES =
            Arrays.stream(DType.values()).map(DType::name).collect(Collectors.joining(", "));

    private final JsonTokens json;
    private DType dtype;
    private Shape shape;
    private boolean offsetsSeen;
    private long start;
    private long end;
    private long[] dims = new long[8];
    private final RecentShapes shapes = new RecentShapes();

    EntryJson(JsonTokens json) {
        this.json = json;
    }

    /// Reads the value that follows.
    ParsedHeader.Tensor read(String tensor) throws HeaderJsonException {
        dtype = null;
        shape = null;
        offsetsSeen = false;
        try {
            readEntry();
        } catch (HeaderJsonException e) {
            throw e.in("tensor " + Words.quoted(tensor));
        }
        return new ParsedHeader.Tensor(tensor, dtype, shape, start, end);
    }

    private void readEntry() throws HeaderJsonException {
        switch (json.next()) {
            case START_OBJECT -> readFields();
            case START_ARRAY -> readArray();
            default -> throw json.expected("an object");
        }
        require(DTYPE, dtype != null);
        require(SHAPE, shape != null);
        require(OFFSETS, offsetsSeen);
    }

    private void readFields() throws HeaderJsonException {
        // Most writers keep to this order, so the next name is guessed before it is read.
        int guess = 0;
        while (true) {
            String field;
            if (json.nextNameIs(USUAL_ORDER[guess])) {
                field = USUAL_ORDER[guess].getValue();
                guess = (guess + 1) % USUAL_ORDER.length;
            } else {
                field = json.nameOrNull();
            }
            if (field == null) {
                return;
            }
            readField(field);
        }
    }

    private void readField(String field) throws HeaderJsonException {
        switch (field) {
            case DTYPE -> {
                requireFirst(DTYPE, dtype == null);
                json.next();
                readDtype();
            }
            case SHAPE -> {
                requireFirst(SHAPE, shape == null);
                json.next();
                readShape();
            }
            case OFFSETS -> {
                requireFirst(OFFSETS, !offsetsSeen);
                json.next();
                readOffsets();
            }
            default -> json.skipValue();
        }
    }

    private void readArray() throws HeaderJsonException {
        json.next();
        readDtype();
        json.next();
        readShape();
        json.next();
        readOffsets();
        if (json.next() != JsonToken.END_ARRAY) {
            throw json.expected("three values");
        }
    }

    private void readDtype() throws HeaderJsonException {
        switch (json.current()) {
            case VALUE_STRING -> dtype = named(json.string());
            case START_OBJECT -> {
                String variant = json.nextName();
                if (variant == null) {
                    throw json.expected("a dtype");
                }
                dtype = named(variant);
                if (json.next() != JsonToken.VALUE_NULL || json.next() != JsonToken.END_OBJECT) {
                    throw json.expected("nothing but a dtype and null");
                }
            }
            default -> throw json.expected("a dtype");
        }
    }

    private DType named(String text) throws HeaderJsonException {
        DType found = DType.named(text);
        if (found == null) {
            throw json.expected("a dtype (" + DTYPES + ")");
        }
        return found;
    }

    private void readShape() throws HeaderJsonException {
        if (json.current() != JsonToken.START_ARRAY) {
            throw json.expected("shape to be an array");
        }
        int rank = 0;
        while (json.next() != JsonToken.END_ARRAY) {
            if (rank == dims.length) {
                dims = Arrays.copyOf(dims, 2 * rank);
            }
            dims[rank++] = json.unsigned(SHAPE);
        }
        shape = shapes.of(dims, rank);
    }

    private void readOffsets() throws HeaderJsonException {
        if (json.current() != JsonToken.START_ARRAY) {
            throw json.expected("data_offsets to be an array");
        }
        json.next();
        start = json.unsigned(OFFSETS);
        json.next();
        end = json.unsigned(OFFSETS);
        if (json.next() != JsonToken.END_ARRAY) {
            throw json.expected("data_offsets to have two numbers");
        }
        offsetsSeen = true;
    }

    private void requireFirst(String field, boolean first) throws HeaderJsonException {
        if (!first) {
            throw json.expected("one " + field, "a second one");
        }
    }

    private void require(String field, boolean seen) throws HeaderJsonException {
        if (!seen) {
            throw json.expected(field, "none");
        }
    }
}
