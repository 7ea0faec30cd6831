package io.instanttensor.read;

import io.instanttensor.file.CheckpointFile;
import io.instanttensor.file.FileException;
import io.instanttensor.jfr.ReadEvent;
import io.instanttensor.jfr.Recorder;
import io.instanttensor.plan.Chunk;
import io.instanttensor.plan.Segment;
import java.lang.foreign.MemorySegment;

/// Reads chunks of one file, in the way that was chosen for it. Stateless; any thread may use it.
public final class ChunkReader {
    private final CheckpointFile file;
    private final FileAccess access;
    private final PositionedRead pread;

    /// One read, as [CheckpointFile#readOnce] makes it.
    @FunctionalInterface
    interface PositionedRead {
        long readOnce(MemorySegment target, long offset) throws FileException;
    }

    public ChunkReader(CheckpointFile file, FileAccess access) {
        this(file, access, file::readOnce);
    }

    /// @param pread for direct reads
    ChunkReader(CheckpointFile file, FileAccess access, PositionedRead pread) {
        this.file = file;
        this.access = access;
        this.pread = pread;
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
    /// @throws FileException where the file ends early or the read fails
    public void read(Chunk chunk, MemorySegment buffer) throws FileException {
        ReadEvent event = Recorder.beginRead();
        long start = chunk.fileOffset() & -access.alignmentBytes();
        long lead = chunk.fileOffset() - start;
        long needed = lead + chunk.bytes();
        long room = (needed + access.alignmentBytes() - 1) & -access.alignmentBytes();
        MemorySegment target = buffer.asSlice(chunk.bufferOffset() - lead, room);
        long got = access.direct() ? readAligned(target, start, needed) : file.readUpTo(target, start, needed);
        if (got < needed) {
            throw file.endedEarly(chunk.fileOffset(), chunk.bytes(), Math.max(0, got - lead));
        }
        file.requireStillWhole(chunk.fileOffset(), chunk.bytes());
        Recorder.endRead(event, file.path(), chunk.fileOffset(), chunk.bytes(), access.direct());
    }

    /// Reads a chunk's segments straight to where they belong; for buffered files only, since the
    /// target's alignment is anybody's guess.
    public void readInto(Chunk chunk, MemorySegment slab) throws FileException {
        for (Segment segment : chunk.segments()) {
            ReadEvent event = Recorder.beginRead();
            long fileOffset = chunk.fileOffset() + segment.chunkOffset();
            file.readFully(slab.asSlice(segment.slabOffset(), segment.bytes()), fileOffset);
            Recorder.endRead(event, file.path(), fileOffset, segment.bytes(), false);
        }
        file.requireStillWhole(chunk.fileOffset(), chunk.bytes());
    }

    /// A direct read may stop short of a unit (at the file's end, or because the file system felt like
    /// it); the next one starts again at the last whole unit, and no progress from there means the end.
    private long readAligned(MemorySegment target, long start, long needed) throws FileException {
        long got = 0;
        while (got < needed) {
            long whole = got & -access.alignmentBytes();
            long read = whole + pread.readOnce(target.asSlice(whole), start + whole);
            if (read <= got) {
                break;
            }
            got = read;
        }
        return got;
    }
}
