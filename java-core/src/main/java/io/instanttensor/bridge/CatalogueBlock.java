package io.instanttensor.bridge;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import io.instanttensor.header.Catalogue;
import io.instanttensor.header.DType;
import io.instanttensor.header.Shape;
import io.instanttensor.header.TensorEntry;
import java.io.ByteArrayOutputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;

/// A catalogue as one block of memory, so that 91,000 tensors cross in milliseconds. A checkpoint has few
/// kinds of tensors (an element type and a shape), so each crosses once.
///
/// ```
/// int64 tensors, kinds, dims, name bytes
/// int64 kind[tensors]          index of its kind
/// int64 nameEnd[tensors]       offset in the names, behind its last byte
/// int64 dtype[kinds]           ordinal of DType
/// int64 bytes[kinds]
/// int64 rank[kinds]
/// int64 dim[dims]              of all kinds, one after the other
/// uint8 names[name bytes]      of all tensors, likewise, UTF-8, a NUL between each two
/// ```
final class CatalogueBlock {
    private static final int COLUMNS = 2;

    /// The bytes follow from the others.
    private record Kind(DType dtype, Shape shape, long bytes) {
        /// As for any record; written out, since linking a record's own takes the JVM 10 ms at the first open.
        @Override
        public boolean equals(Object other) {
            return other instanceof Kind kind && kind.dtype == dtype && kind.shape.equals(shape);
        }

        @Override
        public int hashCode() {
            return 31 * dtype.ordinal() + shape.hashCode();
        }
    }

    /// The bytes of names. Of 200,000 tensors they are an array of 7 MB: one that had to grow, or was copied once more,
    /// would be most of what the collector finds.
    private static final class Names extends ByteArrayOutputStream {
        Names(List<Catalogue.Located> tensors) {
            super(asciiBytes(tensors));
        }

        /// With one between each two; others need more.
        private static int asciiBytes(List<Catalogue.Located> tensors) {
            int sum = tensors.size();
            for (Catalogue.Located located : tensors) {
                sum = Math.addExact(sum, located.entry().name().length());
            }
            return sum;
        }

        void copyTo(MemorySegment block, long at) {
            MemorySegment.copy(buf, 0, block, JAVA_BYTE, at, count);
        }
    }

    private final Arena arena = Arena.ofShared();
    private final long address;
    private final long bytes;
    private boolean freed;

    private CatalogueBlock(List<Catalogue.Located> tensors) {
        int count = tensors.size();
        // On the heap first: every access to memory outside is a call.
        long[] columns = new long[Math.multiplyExact(COLUMNS, count)];
        Map<Kind, Integer> numbers = new LinkedHashMap<>();
        Names names = new Names(tensors);
        Kind kind = null;
        int number = -1;
        for (int i = 0; i < count; i++) {
            TensorEntry entry = tensors.get(i).entry();
            if (kind == null || kind.shape != entry.shape() || kind.dtype != entry.dtype()) {
                kind = new Kind(entry.dtype(), entry.shape(), entry.bytes());
                number = numbers.computeIfAbsent(kind, next -> numbers.size());
            }
            columns[i] = number;
            if (i > 0) {
                names.write(0);
            }
            names.writeBytes(entry.name().getBytes(StandardCharsets.UTF_8));
            columns[i + count] = names.size();
        }
        Set<Kind> kinds = numbers.keySet();
        long[] dtypes = kinds.stream().mapToLong(each -> each.dtype.ordinal()).toArray();
        long[] sizes = kinds.stream().mapToLong(each -> each.bytes).toArray();
        long[] ranks = kinds.stream().mapToLong(each -> each.shape.rank()).toArray();
        long[] dims = kinds.stream()
                .flatMapToLong(each -> IntStream.range(0, each.shape.rank()).mapToLong(each.shape::dim))
                .toArray();
        long[] header = {count, kinds.size(), dims.length, names.size()};
        long[][] parts = {header, columns, dtypes, sizes, ranks, dims};
        long words = Arrays.stream(parts).mapToLong(part -> part.length).sum();
        this.bytes = words * JAVA_LONG.byteSize() + names.size();
        MemorySegment block = arena.allocate(bytes, JAVA_LONG.byteAlignment());
        long at = 0;
        for (long[] part : parts) {
            MemorySegment.copy(part, 0, block, JAVA_LONG, at, part.length);
            at += part.length * JAVA_LONG.byteSize();
        }
        names.copyTo(block, at);
        this.address = block.address();
    }

    static CatalogueBlock of(Catalogue catalogue) {
        return new CatalogueBlock(catalogue.tensors());
    }

    long address() {
        return address;
    }

    long bytes() {
        return bytes;
    }

    synchronized void free() {
        if (!freed) {
            freed = true;
            arena.close();
        }
    }
}
