package io.instanttensor.header;

import static io.instanttensor.header.HeaderFault.INVALID_OFFSET;
import static io.instanttensor.header.HeaderFault.METADATA_INCOMPLETE_BUFFER;
import static io.instanttensor.header.HeaderFault.MISALIGNED_SLICE;
import static io.instanttensor.header.HeaderFault.TENSOR_INVALID_INFO;
import static io.instanttensor.header.HeaderFault.VALIDATION_OVERFLOW;

import io.instanttensor.file.CodePointOrder;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.List;

/// Whether the tensors cover the data section: without holes, each as long as its type and shape say, to
/// the end of the file. Nothing is read here. All numbers are unsigned until they have been checked.
record DataLayout(Path file, long fileBytes, long dataOffset) {
    private static final int BITS_PER_BYTE = 8;

    /// The reference sorts by both offsets, and reports the first tensor at fault in that order. Among
    /// equals its order is chance; ours is the names'.
    private static final Comparator<ParsedHeader.Tensor> AS_CHECKED = (left, right) -> {
        int order = Long.compareUnsigned(left.start(), right.start());
        if (order == 0) {
            order = Long.compareUnsigned(left.end(), right.end());
        }
        return order != 0 ? order : CodePointOrder.INSTANCE.compare(left.name(), right.name());
    };
    /// The same of entries, whose numbers are in order already.
    private static final Comparator<TensorEntry> ENTRIES_AS_CHECKED = (left, right) -> {
        int order = Long.compare(left.fileOffset(), right.fileOffset());
        if (order == 0) {
            order = Long.compare(left.bytes(), right.bytes());
        }
        return order != 0 ? order : CodePointOrder.INSTANCE.compare(left.name(), right.name());
    };
    private static final Comparator<TensorEntry> AS_HANDED_OUT = (left, right) -> {
        int order = Long.compare(left.fileOffset(), right.fileOffset());
        return order != 0 ? order : CodePointOrder.INSTANCE.compare(left.name(), right.name());
    };

    /// @return by (offset, name)
    List<TensorEntry> check(List<ParsedHeader.Tensor> parsed) throws MalformedHeaderException {
        if (parsed instanceof UsualTensors usual) {
            return checkUsual(usual.entries());
        }
        List<ParsedHeader.Tensor> tensors = new ArrayList<>(parsed);
        tensors.sort(AS_CHECKED);
        requireWhole(tensors);
        List<TensorEntry> entries = new ArrayList<>(tensors.size());
        for (ParsedHeader.Tensor t : tensors) {
            entries.add(new TensorEntry(t.name(), t.dtype(), t.shape(), dataOffset + t.start(), t.end() - t.start()));
        }
        entries.sort(AS_HANDED_OUT);
        return Collections.unmodifiableList(entries);
    }

    /// The same without a second object for each tensor: a header may hold more than a million.
    private List<TensorEntry> checkUsual(List<TensorEntry> entries) throws MalformedHeaderException {
        if (areWhole(entries)) {
            return Collections.unmodifiableList(entries);
        }
        List<TensorEntry> sorted = new ArrayList<>(entries);
        sorted.sort(ENTRIES_AS_CHECKED);
        requireWhole(new UsualTensors(dataOffset, sorted));
        sorted.sort(AS_HANDED_OUT);
        return Collections.unmodifiableList(sorted);
    }

    /// @param tensors in the order in which they are checked
    private void requireWhole(List<ParsedHeader.Tensor> tensors) throws MalformedHeaderException {
        long dataBytes = 0;
        for (ParsedHeader.Tensor tensor : tensors) {
            requireAdjacent(tensor, dataBytes);
            requireSize(tensor);
            dataBytes = tensor.end();
        }
        requireWholeFile(dataBytes);
    }

    /// Whether tensors are all of the data, one behind the other in this order. Where they are not, nothing is said of
    /// why: the order in which faults are told is another.
    private boolean areWhole(List<TensorEntry> entries) {
        DType dtype = null;
        Shape shape = null;
        long bytes = 0;
        long end = dataOffset;
        for (TensorEntry entry : entries) {
            // Most are of the kind of the one before.
            if (entry.dtype() != dtype || entry.shape() != shape) {
                dtype = entry.dtype();
                shape = entry.shape();
                bytes = bytesOf(dtype, shape);
            }
            // Of empty ones several start at one place, and names decide.
            if (bytes <= 0 || entry.bytes() != bytes || entry.fileOffset() != end) {
                return false;
            }
            end += bytes;
        }
        return end == fileBytes;
    }

    /// Less than 0 where it is no number of whole bytes, or too large a number.
    private static long bytesOf(DType dtype, Shape shape) {
        long bits = dtype.bits();
        for (int axis = 0; axis < shape.rank(); axis++) {
            if (Math.multiplyHigh(bits, shape.dim(axis)) != 0) {
                return -1;
            }
            bits *= shape.dim(axis);
        }
        return bits % BITS_PER_BYTE == 0 ? bits / BITS_PER_BYTE : -1;
    }

    private void requireAdjacent(ParsedHeader.Tensor tensor, long expectedStart) throws MalformedHeaderException {
        if (tensor.start() != expectedStart) {
            String reason = expectedStart == 0
                    ? ", as the first bytes of the data do" : ", where the tensor before it ends";
            throw fault(INVALID_OFFSET, tensor,
                    "data_offsets to start at " + Words.grouped(expectedStart) + reason, range(tensor));
        }
        if (Long.compareUnsigned(tensor.end(), tensor.start()) < 0) {
            throw fault(INVALID_OFFSET, tensor, "data_offsets that end where they start or later", range(tensor));
        }
    }

    private void requireSize(ParsedHeader.Tensor tensor) throws MalformedHeaderException {
        Shape shape = tensor.shape();
        long elements = 1;
        // From left to right, as the reference multiplies: a zero saves only what stands behind it.
        for (int axis = 0; axis < shape.rank(); axis++) {
            elements = product(tensor, elements, shape.dim(axis));
        }
        long bits = product(tensor, elements, tensor.dtype().bits());
        if (Long.remainderUnsigned(bits, BITS_PER_BYTE) != 0) {
            throw fault(MISALIGNED_SLICE, tensor, "whole bytes",
                    describe(tensor) + ", " + Words.grouped(bits) + " bits");
        }
        long expectedBytes = Long.divideUnsigned(bits, BITS_PER_BYTE);
        long foundBytes = tensor.end() - tensor.start();
        if (foundBytes != expectedBytes) {
            throw fault(TENSOR_INVALID_INFO, tensor, Words.grouped(expectedBytes) + " bytes for " + describe(tensor),
                    Words.grouped(foundBytes) + " at data_offsets " + range(tensor));
        }
    }

    private long product(ParsedHeader.Tensor tensor, long left, long right) throws MalformedHeaderException {
        if (Math.unsignedMultiplyHigh(left, right) != 0) {
            throw fault(VALIDATION_OVERFLOW, tensor, "a size in bits below 2^64", describe(tensor));
        }
        return left * right;
    }

    private void requireWholeFile(long dataBytes) throws MalformedHeaderException {
        long foundBytes = fileBytes - dataOffset;
        if (dataBytes != foundBytes) {
            throw new MalformedHeaderException(METADATA_INCOMPLETE_BUFFER, file, "expected "
                    + Words.grouped(dataBytes) + " bytes of data behind the header, which ends at "
                    + Words.grouped(dataOffset) + ", found " + Words.grouped(foundBytes) + ": the file "
                    + (Long.compareUnsigned(dataBytes, foundBytes) > 0 ? "was cut short" : "has bytes of no tensor")
                    + " (it has " + Words.grouped(fileBytes) + " bytes)");
        }
    }

    private MalformedHeaderException fault(
            HeaderFault fault, ParsedHeader.Tensor tensor, String expected, String found) {
        return new MalformedHeaderException(
                fault, file, "tensor " + Words.quoted(tensor.name()) + ": expected " + expected + ", found " + found);
    }

    private static String range(ParsedHeader.Tensor tensor) {
        return "[" + Long.toUnsignedString(tensor.start()) + ", " + Long.toUnsignedString(tensor.end()) + "]";
    }

    private static String describe(ParsedHeader.Tensor tensor) {
        return tensor.dtype() + " of shape " + Words.clipped(tensor.shape().toString());
    }
}
