package io.instanttensor.header;

import java.util.AbstractList;
import java.util.List;
import java.util.RandomAccess;

/// Tensors of a usual header, whose names are ASCII. Its numbers fit those of an entry, so that there is one object of
/// each tensor and not two: of 200,000 tensors that is a garbage collection less. What the JSON said is made of it for
/// whoever asks.
final class UsualTensors extends AbstractList<ParsedHeader.Tensor> implements RandomAccess {
    private final long dataOffset;
    private final List<TensorEntry> entries;

    /// @param dataOffset of the file's data section
    UsualTensors(long dataOffset, List<TensorEntry> entries) {
        this.dataOffset = dataOffset;
        this.entries = entries;
    }

    List<TensorEntry> entries() {
        return entries;
    }

    @Override
    public ParsedHeader.Tensor get(int index) {
        TensorEntry entry = entries.get(index);
        return new ParsedHeader.Tensor(entry.name(), entry.dtype(), entry.shape(),
                entry.fileOffset() - dataOffset, entry.fileEnd() - dataOffset);
    }

    @Override
    public int size() {
        return entries.size();
    }
}
