package io.instanttensor.read;

import io.instanttensor.file.CheckpointFile;
import io.instanttensor.file.FileException;
import io.instanttensor.jfr.ReadEvent;
import io.instanttensor.jfr.Recorder;
import io.instanttensor.plan.Chunk;
import io.instanttensor.plan.Segment;
import io.instanttensor.posix.ErrnoException;
import java.lang.foreign.MemorySegment;

/// Reads chunks of one file, in the way that was chosen for it. Stateless; any thread may use it, with methods of its
/// own.
public final class ChunkReader {
    /// What the page cache holds of a chunk is told to this.
    private static final long PART_BYTES = 64 << 10;

    private final CheckpointFile file;
    private final FileAccess access;

    public ChunkReader(CheckpointFile file, FileAccess access) {
        this.file = file;
        this.access = access;
    }

    public CheckpointFile file() {
        return file;
    }

    public FileAccess access() {
        return access;
    }

    /// Reads a chunk to its place in a staging buffer.
    ///
    /// @param buffer that the chunk's batch was packed for; aligned to 4096 bytes
    /// @param methods of the calling thread
    /// @throws FileException where the file ends early or the read fails
    public void read(Chunk chunk, MemorySegment buffer, ReadMethods methods) throws FileException {
        PageCacheProbe.Part missing = missing(chunk);
        read(chunk, buffer, methods.of(access.method()), missing.isEmpty() ? file : source(methods), missing);
    }

    /// @param source of what is missing; the rest is read through the page cache
    /// @param missing counted from the chunk's first unit
    void read(
            Chunk chunk, MemorySegment buffer, PositionalReads reads, CheckpointFile source,
            PageCacheProbe.Part missing) throws FileException {
        ReadEvent event = Recorder.beginRead();
        long start = start(chunk);
        long lead = chunk.fileOffset() - start;
        long needed = lead + chunk.bytes();
        long room = (needed + access.alignmentBytes() - 1) & -access.alignmentBytes();
        MemorySegment target = buffer.asSlice(chunk.bufferOffset() - lead, room);
        boolean direct = access.mode() == FileAccess.Mode.DIRECT
                || access.mode() == FileAccess.Mode.MIXED && source != file;
        long got = missing.from() == 0 ? 0 : file.readUpTo(target.asSlice(0, missing.from()), start, missing.from());
        if (got == missing.from() && !missing.isEmpty()) {
            long end = missing.to() == needed ? room : missing.to();
            got += readUpTo(part(target, got, end - got), start + got, missing.to() - got,
                    direct ? access.alignmentBytes() : 1, reads, source);
        }
        if (got < needed && (direct || got == missing.to())) {
            got += readRest(target.asSlice(got), start + got, needed - got);
        }
        if (got < needed) {
            throw file.endedEarly(chunk.fileOffset(), chunk.bytes(), Math.max(0, got - lead));
        }
        file.requireStillWhole(chunk.fileOffset(), chunk.bytes());
        Recorder.endRead(event, file.path(), chunk.fileOffset(), chunk.bytes(), direct);
    }

    /// Of most reads it is all, and one object less for the garbage collector.
    private static MemorySegment part(MemorySegment all, long offset, long bytes) {
        return bytes == all.byteSize() ? all : all.asSlice(offset, bytes);
    }

    private long start(Chunk chunk) {
        return chunk.fileOffset() & -access.alignmentBytes();
    }

    /// What the page cache does not hold of a chunk, from its first unit on; all, where that makes no difference.
    PageCacheProbe.Part missing(Chunk chunk) {
        long start = start(chunk);
        long needed = chunk.fileOffset() + chunk.bytes() - start;
        return access.mode() == FileAccess.Mode.MIXED
                ? PageCacheProbe.missing(file, start, needed, Math.max(PART_BYTES, access.alignmentBytes()))
                : new PageCacheProbe.Part(0, needed);
    }

    /// The file by the descriptor that is read with: what lies in memory by the common one, but for the parts of it
    /// that have gone since.
    private CheckpointFile source(ReadMethods methods) {
        boolean common = access.method() == ReadMethod.MMAP
                || access.inMemory() && access.mode() != FileAccess.Mode.MIXED;
        return common ? file : methods.own(file, access.direct());
    }

    /// Through the page cache: what it held behind the part that it missed, or what direct reads did not bring. Some
    /// file systems bring less than a unit where they have more.
    private long readRest(MemorySegment target, long offset, long needed) throws FileException {
        if (access.mode() == FileAccess.Mode.MIXED) {
            return file.readUpTo(target, offset, needed);
        }
        try (CheckpointFile buffered = file.reopened(false)) {
            return buffered.readUpTo(target, offset, needed);
        } catch (ErrnoException e) {
            // Without /proc, or with too many open files: then it came short.
            return 0;
        }
    }

    /// Whether the page cache holds a chunk, now, of a file of which it holds parts.
    public boolean isCached(Chunk chunk) {
        return access.mode() == FileAccess.Mode.MIXED
                && PageCacheProbe.holds(file, chunk.fileOffset(), chunk.bytes());
    }

    /// Reads a chunk's segments straight to where they belong, through the page cache, since the target's alignment is
    /// anybody's guess.
    ///
    /// @param methods of the calling thread
    /// @throws FileException where the file ends early or the read fails
    public void readInto(Chunk chunk, MemorySegment slab, ReadMethods methods) throws FileException {
        PositionalReads reads = methods.of(access.method());
        // Of a file that is also read directly, the common descriptor is the one that is not.
        CheckpointFile source = access.mode() == FileAccess.Mode.MIXED ? file : source(methods);
        for (Segment segment : chunk.segments()) {
            ReadEvent event = Recorder.beginRead();
            long fileOffset = chunk.fileOffset() + segment.chunkOffset();
            long got = readUpTo(
                    slab.asSlice(segment.slabOffset(), segment.bytes()), fileOffset, segment.bytes(), 1, reads,
                    source);
            if (got < segment.bytes()) {
                throw file.endedEarly(fileOffset, segment.bytes(), got);
            }
            Recorder.endRead(event, file.path(), fileOffset, segment.bytes(), false);
        }
        file.requireStillWhole(chunk.fileOffset(), chunk.bytes());
    }

    /// Reads a chunk's segments straight to a device's memory; for files of [ReadMethod#CUFILE] only. The device is
    /// current on the calling thread.
    ///
    /// @param slabAddress on that device
    /// @throws FileException where the file ends early or the read fails
    public void readToDevice(Chunk chunk, long slabAddress) throws FileException {
        for (Segment segment : chunk.segments()) {
            ReadEvent event = Recorder.beginRead();
            long fileOffset = chunk.fileOffset() + segment.chunkOffset();
            long got = 0;
            while (got < segment.bytes()) {
                long read = CuFileReads.readOnce(
                        file, slabAddress, segment.slabOffset() + got, segment.bytes() - got, fileOffset + got);
                if (read == 0) {
                    throw file.endedEarly(fileOffset, segment.bytes(), got);
                }
                got += read;
            }
            Recorder.endRead(event, file.path(), fileOffset, segment.bytes(), true);
        }
        file.requireStillWhole(chunk.fileOffset(), chunk.bytes());
    }

    /// A read may stop short: at the file's end, or because the file system felt like it, and a direct one inside a
    /// unit. The next one starts again at the last whole unit, and no progress from there means the end: of the file,
    /// or of what direct reads bring.
    private static long readUpTo(
            MemorySegment target, long start, long needed, int unit, PositionalReads reads, CheckpointFile source)
            throws FileException {
        long got = 0;
        while (got < needed) {
            long whole = got & -unit;
            long read = whole + reads.readOnce(
                    source, part(target, whole, target.byteSize() - whole), start + whole);
            if (read <= got) {
                break;
            }
            got = read;
        }
        return got;
    }
}
