package io.instanttensor.bridge;

import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import io.instanttensor.Checkpoint;
import io.instanttensor.LoadOutlook;
import io.instanttensor.header.SafetensorsHeader;
import io.instanttensor.plan.Wanted;
import io.instanttensor.read.FileAccess;
import io.instanttensor.slab.ClosedException;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/// A checkpoint as Python sees it. Whatever has many elements crosses as the address of a block of
/// 64-bit numbers; whatever an option leaves open crosses as 0.
public final class PythonCheckpoint {
    /// Null once it is closed: Python's object may live longer, and 91,000 tensors take 12 MB.
    private volatile Checkpoint open;
    /// Made by whoever comes first: Python, who starts a load of everything before it asks, or the thread that
    /// has opened the checkpoint.
    private CatalogueBlock catalogue;
    private boolean catalogueForgotten;

    PythonCheckpoint(Checkpoint checkpoint) {
        this.open = checkpoint;
    }

    /// Makes the block that Python will ask for, unless it has asked already.
    synchronized void prepareCatalogue() {
        if (!catalogueForgotten) {
            catalogueAddress();
        }
    }

    /// Of a [CatalogueBlock], which stays until it is forgotten.
    public synchronized long catalogueAddress() {
        if (catalogue == null) {
            catalogue = CatalogueBlock.of(open().catalogue());
        }
        return catalogue.address();
    }

    /// Of the block that [#catalogueAddress] has named.
    public synchronized long catalogueBytes() {
        return catalogue.bytes();
    }

    /// Frees the block once Python has read it.
    public synchronized void forgetCatalogue() {
        catalogueForgotten = true;
        if (catalogue != null) {
            catalogue.free();
            catalogue = null;
        }
    }

    /// Of all tensors.
    public long totalBytes() {
        return open().catalogue().totals().bytes();
    }

    /// Of the largest tensor; 0 where there is none.
    public long largestBytes() {
        return open().catalogue().totals().largestBytes();
    }

    public String[] files() {
        return open().catalogue().headers().stream()
                .map(header -> header.file().toString())
                .toArray(String[]::new);
    }

    /// Of all files together.
    public long fileBytes() {
        return open().catalogue().headers().stream().mapToLong(SafetensorsHeader::fileBytes).sum();
    }

    /// How many tensors there are; a name that two files hold counts twice.
    public int tensors() {
        return open().catalogue().tensors().size();
    }

    /// See [Catalogue#fingerprint].
    public long fingerprint() {
        return open().catalogue().fingerprint();
    }

    /// `__metadata__` of a file as key, value, key, value …; null where it has none.
    public String[] metadata(int file) {
        SafetensorsHeader header = open().catalogue().headers().get(file);
        if (header.metadata() == null) {
            return null;
        }
        List<String> flat = new ArrayList<>();
        for (Map.Entry<String, String> pair : header.metadata().entrySet()) {
            flat.add(pair.getKey());
            flat.add(pair.getValue());
        }
        return flat.toArray(String[]::new);
    }

    /// Names that more than one file holds.
    public String[] duplicates() {
        return open().catalogue().duplicates().keySet().toArray(String[]::new);
    }

    /// The files that hold such a name.
    public String[] homes(String duplicate) {
        return open().catalogue().duplicates().get(duplicate).stream()
                .map(Path::toString)
                .toArray(String[]::new);
    }

    /// How each file is read: mode, backend, reason, and the candidates passed over, four texts a file.
    public String[] access() throws IOException {
        List<String> flat = new ArrayList<>();
        for (FileAccess access : open().access()) {
            flat.add(access.mode().name().toLowerCase(java.util.Locale.ROOT));
            flat.add(access.backend() == null ? "" : access.backend().name());
            flat.add(access.reason());
            flat.add(String.join("; ", access.passedOver()));
        }
        return flat.toArray(String[]::new);
    }

    /// What a load would hold at most in slabs of its own.
    public long capBytes(long tensorsAddress, int count, PythonOptions options) throws IOException {
        return open().budget(readInts(tensorsAddress, count), options.toLoadOptions()).capBytes();
    }

    /// The same of a load of all tensors.
    public long capBytesOfAll(PythonOptions options) {
        return open().budget(options.toLoadOptions()).capBytes();
    }

    /// The numbers of [LoadOutlook], in the order of its components.
    public long[] outlook(PythonOptions options) throws IOException {
        LoadOutlook outlook = open().outlook(options.toLoadOptions());
        return new long[] {
            outlook.readers(), outlook.chunkBytes(), outlook.reads(), outlook.slabs(), outlook.slabBytes(),
            outlook.capBytes(), outlook.stagingBytes()
        };
    }

    /// Starts loading tensors into slabs.
    ///
    /// @param tensorsAddress of `count` ascending 32-bit indexes into the catalogue
    public PythonLoad load(long tensorsAddress, int count, PythonOptions options) throws IOException {
        return new PythonLoad(open().load(readInts(tensorsAddress, count), options.toLoadOptions()));
    }

    /// Starts loading all tensors into slabs.
    public PythonLoad loadAll(PythonOptions options) throws IOException {
        return new PythonLoad(open().load(options.toLoadOptions()));
    }

    /// Starts loading ranges into the caller's memory.
    ///
    /// @param rangesAddress of `count` times four numbers: tensor, offset in the tensor, bytes (more than
    ///     0), address it goes to
    /// @param stream of the caller, as a number
    public PythonLoad loadInto(long rangesAddress, int count, long stream, PythonOptions options) throws IOException {
        Checkpoint from = open();
        MemorySegment block = MemorySegment.ofAddress(rangesAddress).reinterpret(count * 4L * JAVA_LONG.byteSize());
        List<Wanted> wanted = new ArrayList<>(count);
        long[] addresses = new long[count];
        for (int i = 0; i < count; i++) {
            int tensor = Math.toIntExact(block.getAtIndex(JAVA_LONG, 4L * i));
            wanted.add(Wanted.part(from.catalogue(), tensor, block.getAtIndex(JAVA_LONG, 4L * i + 1),
                    block.getAtIndex(JAVA_LONG, 4L * i + 2)));
            addresses[i] = block.getAtIndex(JAVA_LONG, 4L * i + 3);
        }
        return new PythonLoad(from.loadInto(wanted, addresses, stream, options.toLoadOptions()));
    }

    public void close() {
        forgetCatalogue();
        int tensors = closeOnce();
        // Nobody has what has been closed in a variable any more.
        OwnHeap.closed(tensors);
    }

    /// @return its tensors; 0 where it has been closed before
    private int closeOnce() {
        Checkpoint closing;
        synchronized (this) {
            closing = open;
            open = null;
        }
        if (closing == null) {
            return 0;
        }
        closing.close();
        return closing.catalogue().tensors().size();
    }

    private Checkpoint open() {
        Checkpoint found = open;
        if (found == null) {
            throw new ClosedException("the checkpoint is closed");
        }
        return found;
    }

    private static int[] readInts(long address, int count) {
        return MemorySegment.ofAddress(address).reinterpret(count * JAVA_INT.byteSize()).toArray(JAVA_INT);
    }
}
