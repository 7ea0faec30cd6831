package io.instanttensor;

import io.instanttensor.device.DeviceId;
import io.instanttensor.file.CheckpointFile;
import io.instanttensor.plan.LoadPlan;
import io.instanttensor.plan.SlabBudget;
import io.instanttensor.read.ChunkReader;
import io.instanttensor.stage.StagingPool;
import java.util.List;

/// What a load would do if it were started now, going by the memory that is free and by how the files are
/// read.
///
/// @param readers threads that read at once, to begin with
/// @param chunkBytes of one read, at most
/// @param reads how many of them
/// @param slabs how many of them, one after the other
/// @param slabBytes what a slab holds, unless a single tensor is larger
/// @param capBytes of slabs that no view refers to, at most
/// @param stagingBytes of the buffers that bytes pass through, at most; pinned where they go to a GPU. 0
///     where they are read to where they belong
public record LoadOutlook(
        int readers, long chunkBytes, int reads, int slabs, long slabBytes, long capBytes, long stagingBytes) {
    static LoadOutlook of(LoadPlan plan, SlabBudget budget, LoadOptions options, List<ChunkReader> files) {
        LoadPlan.Counts counts = plan.count(Integer.MAX_VALUE);
        ReaderCount readers = ReaderCount.of(options, files);
        return new LoadOutlook(Math.min(readers.first(), counts.chunks()), options.chunkBytes(), counts.chunks(),
                plan.slabs().size(), budget.slabBytes(), budget.capBytes(),
                stagingBytes(counts, plan.bufferBytes(), options, files, Math.min(readers.most(), counts.chunks())));
    }

    private static long stagingBytes(
            LoadPlan.Counts counts, long bufferBytes, LoadOptions options, List<ChunkReader> files, int mostReaders) {
        boolean host = options.device().kind() == DeviceId.Kind.CPU;
        if (host && files.stream().noneMatch(file -> file.access().direct())) {
            return 0;
        }
        long bytes = files.stream().map(ChunkReader::file).mapToLong(CheckpointFile::bytes).sum();
        // For a GPU some are pinned at opening, before anybody knows what will be loaded.
        int buffers = host ? mostReaders : Math.max(counts.batches(), BatchSize.buffers(options, bytes));
        return StagingPool.bytes(buffers, bufferBytes, StagingPool.limitBytes(options.processes()));
    }
}
