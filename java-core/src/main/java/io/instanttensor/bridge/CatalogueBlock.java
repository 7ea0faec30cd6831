package io.instanttensor.bridge;

import static java.lang.foreign.ValueLayout.JAVA_LONG;

import io.instanttensor.header.Catalogue;
import io.instanttensor.header.Shape;
import io.instanttensor.header.TensorEntry;
import java.io.ByteArrayOutputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/// A catalogue as one block of memory, so that 91,000 tensors cross in milliseconds. A checkpoint has few
/// different shapes, so each crosses once.
///
/// ```
/// int64 tensors, shapes, dims, name bytes
/// int64 dtype[tensors]         ordinal of DType
/// int64 bytes[tensors]
/// int64 shape[tensors]         index of its shape
/// int64 nameLength[tensors]    in code points
/// int64 rank[shapes]
/// int64 dim[dims]              of all shapes, one after the other
/// uint8 names[name bytes]      of all tensors, likewise, UTF-8
/// ```
final class CatalogueBlock {
    private static final int HEADER_WORDS = 4;
    private static final int COLUMNS = 4;

    private final Arena arena = Arena.ofShared();
    private final long address;
    private final long bytes;
    private boolean freed;

    private CatalogueBlock(List<Catalogue.Located> tensors) {
        ByteArrayOutputStream names = new ByteArrayOutputStream();
        Map<Shape, Integer> shapes = new LinkedHashMap<>();
        long dims = 0;
        for (Catalogue.Located located : tensors) {
            names.writeBytes(located.entry().name().getBytes(StandardCharsets.UTF_8));
            Shape shape = located.entry().shape();
            if (shapes.putIfAbsent(shape, shapes.size()) == null) {
                dims += shape.rank();
            }
        }
        long count = tensors.size();
        long words = HEADER_WORDS + COLUMNS * count + shapes.size() + dims;
        this.bytes = words * JAVA_LONG.byteSize() + names.size();
        MemorySegment block = arena.allocate(bytes, JAVA_LONG.byteAlignment());
        block.setAtIndex(JAVA_LONG, 0, count);
        block.setAtIndex(JAVA_LONG, 1, shapes.size());
        block.setAtIndex(JAVA_LONG, 2, dims);
        block.setAtIndex(JAVA_LONG, 3, names.size());
        for (int i = 0; i < count; i++) {
            TensorEntry entry = tensors.get(i).entry();
            long at = HEADER_WORDS + i;
            block.setAtIndex(JAVA_LONG, at, entry.dtype().ordinal());
            block.setAtIndex(JAVA_LONG, at + count, entry.bytes());
            block.setAtIndex(JAVA_LONG, at + 2 * count, shapes.get(entry.shape()));
            block.setAtIndex(JAVA_LONG, at + 3 * count, entry.name().codePointCount(0, entry.name().length()));
        }
        long rankAt = HEADER_WORDS + COLUMNS * count;
        long dimAt = rankAt + shapes.size();
        for (Shape shape : shapes.keySet()) {
            block.setAtIndex(JAVA_LONG, rankAt++, shape.rank());
            for (int axis = 0; axis < shape.rank(); axis++) {
                block.setAtIndex(JAVA_LONG, dimAt++, shape.dim(axis));
            }
        }
        MemorySegment.copy(MemorySegment.ofArray(names.toByteArray()), 0, block, words * JAVA_LONG.byteSize(),
                names.size());
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
