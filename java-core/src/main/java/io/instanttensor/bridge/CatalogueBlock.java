package io.instanttensor.bridge;

import static java.lang.foreign.ValueLayout.JAVA_LONG;

import io.instanttensor.header.Catalogue;
import io.instanttensor.header.DType;
import io.instanttensor.header.SafetensorsHeader;
import io.instanttensor.header.Shape;
import io.instanttensor.header.TensorEntry;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

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
    private static final int HEADER_WORDS = 4;
    private static final int COLUMNS = 2;
    private static final int KIND_COLUMNS = 3;

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

    /// The most bytes that a character has in UTF-8.
    private static final int MAX_CHAR_BYTES = 3;

    private final Arena arena = Arena.ofShared();
    private final MemorySegment block;
    private final long bytes;
    private boolean freed;

    /// @param ascii whether no name has any other character
    /// @param maxNameBytes with a byte between each two
    /// @throws IndexOutOfBoundsException where names have more
    private CatalogueBlock(List<Catalogue.Located> tensors, boolean ascii, long maxNameBytes) {
        int count = tensors.size();
        Map<Kind, Integer> numbers = new LinkedHashMap<>();
        int[] kindNumbers = number(tensors, numbers);
        Set<Kind> kinds = numbers.keySet();
        int dims = 0;
        for (Kind kind : kinds) {
            dims += kind.shape.rank();
        }
        long wordBytes = JAVA_LONG.byteSize()
                * (HEADER_WORDS + (long) COLUMNS * count + (long) KIND_COLUMNS * kinds.size() + dims);
        this.block = arena.allocate(Math.addExact(wordBytes, maxNameBytes), JAVA_LONG.byteAlignment());
        try {
            NameWriter names = new NameWriter(block.asSlice(wordBytes), ascii);
            WordWriter words = new WordWriter(block.asSlice(HEADER_WORDS * JAVA_LONG.byteSize()));
            for (int number : kindNumbers) {
                words.put(number);
            }
            for (Catalogue.Located located : tensors) {
                names.put(located.entry().name());
                words.put(names.bytes());
            }
            names.flush();
            putKinds(kinds, words);
            words.flush();
            MemorySegment.copy(new long[] {count, kinds.size(), dims, names.bytes()}, 0, block, JAVA_LONG, 0,
                    HEADER_WORDS);
            this.bytes = wordBytes + names.bytes();
        } catch (RuntimeException | Error e) {
            arena.close();
            throw e;
        }
    }

    /// The index of each tensor's kind; kinds are numbered as they come.
    private static int[] number(List<Catalogue.Located> tensors, Map<Kind, Integer> numbers) {
        int[] found = new int[tensors.size()];
        Kind kind = null;
        int number = -1;
        for (int i = 0; i < found.length; i++) {
            TensorEntry entry = tensors.get(i).entry();
            if (kind == null || kind.shape != entry.shape() || kind.dtype != entry.dtype()) {
                kind = new Kind(entry.dtype(), entry.shape(), entry.bytes());
                number = numbers.computeIfAbsent(kind, next -> numbers.size());
            }
            found[i] = number;
        }
        return found;
    }

    private static void putKinds(Set<Kind> kinds, WordWriter words) {
        for (Kind kind : kinds) {
            words.put(kind.dtype.ordinal());
        }
        for (Kind kind : kinds) {
            words.put(kind.bytes);
        }
        for (Kind kind : kinds) {
            words.put(kind.shape.rank());
        }
        for (Kind kind : kinds) {
            for (int axis = 0; axis < kind.shape.rank(); axis++) {
                words.put(kind.shape.dim(axis));
            }
        }
    }

    static CatalogueBlock of(Catalogue catalogue) {
        List<Catalogue.Located> tensors = catalogue.tensors();
        long chars = tensors.size();
        for (Catalogue.Located located : tensors) {
            chars += located.entry().name().length();
        }
        // One file with another header makes all names be encoded.
        boolean ascii = catalogue.headers().stream().allMatch(SafetensorsHeader::asciiNames);
        try {
            // Nearly all other names are of ASCII too.
            return new CatalogueBlock(tensors, ascii, chars);
        } catch (IndexOutOfBoundsException tooLong) {
            return new CatalogueBlock(tensors, ascii, MAX_CHAR_BYTES * chars);
        }
    }

    long address() {
        return block.address();
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
