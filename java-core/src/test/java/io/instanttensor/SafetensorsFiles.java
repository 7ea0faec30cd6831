package io.instanttensor;

import io.instanttensor.header.DType;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/// Safetensors files for tests: whole ones laid out by a [Builder], and broken ones written as they come.
public final class SafetensorsFiles {
    private SafetensorsFiles() {}

    /// Writes a file of this header, whatever it says, and this data.
    public static Path write(Path dir, String name, String headerJson, byte[] data) {
        return write(dir, name, headerJson.getBytes(StandardCharsets.UTF_8), data);
    }

    /// The same for a header that is no text.
    public static Path write(Path dir, String name, byte[] header, byte[] data) {
        return write(dir.resolve(name), ByteBuffer.allocate(8 + header.length + data.length)
                .order(ByteOrder.LITTLE_ENDIAN)
                .putLong(header.length)
                .put(header)
                .put(data)
                .array());
    }

    /// Tensors one behind the other, in the order in which they are added.
    public static Builder builder() {
        return new Builder();
    }

    private static Path write(Path file, byte[] content) {
        try {
            return Files.write(file, content);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /// Not for two files: it keeps what was added.
    public static final class Builder {
        private final Map<String, String> metadata = new LinkedHashMap<>();
        private final List<String> entries = new ArrayList<>();
        private final ByteArrayOutputStream data = new ByteArrayOutputStream();

        /// Adds to `__metadata__`, which the file lacks otherwise. No characters that JSON escapes.
        public Builder metadata(String key, String value) {
            metadata.put(key, value);
            return this;
        }

        /// Adds a tensor of these bytes, whether or not they fit the shape. No characters that JSON escapes.
        public Builder tensor(String name, DType dtype, long[] shape, byte[] bytes) {
            int start = data.size();
            data.writeBytes(bytes);
            entries.add("\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + Arrays.toString(shape)
                    + ",\"data_offsets\":[" + start + "," + data.size() + "]}");
            return this;
        }

        /// Adds a tensor of as many bytes as the shape wants: `seed`, `seed + 1` and so on, so that no two
        /// places near each other hold the same.
        public Builder tensor(String name, DType dtype, long[] shape, int seed) {
            long bits = Arrays.stream(shape).reduce(dtype.bits(), Math::multiplyExact);
            byte[] bytes = new byte[Math.toIntExact(bits / 8)];
            for (int i = 0; i < bytes.length; i++) {
                bytes[i] = Integer.valueOf(seed + i + (i >> 8)).byteValue();
            }
            return tensor(name, dtype, shape, bytes);
        }

        public String headerJson() {
            List<String> fields = new ArrayList<>();
            if (!metadata.isEmpty()) {
                List<String> texts = new ArrayList<>();
                metadata.forEach((key, value) -> texts.add("\"" + key + "\":\"" + value + "\""));
                fields.add("\"__metadata__\":{" + String.join(",", texts) + "}");
            }
            fields.addAll(entries);
            return "{" + String.join(",", fields) + "}";
        }

        /// All tensors' bytes.
        public byte[] data() {
            return data.toByteArray();
        }

        public Path write(Path dir, String name) {
            return SafetensorsFiles.write(dir, name, headerJson(), data());
        }
    }
}
