package io.instanttensor.stage;

import io.instanttensor.device.CopyStream;
import io.instanttensor.device.Device;
import io.instanttensor.device.Fence;
import io.instanttensor.jfr.CopyEvent;
import io.instanttensor.jfr.Recorder;
import io.instanttensor.plan.Batch;
import java.lang.foreign.MemorySegment;

/// The one stream that all copies of a load go through. With a stream for each of fourteen readers copies
/// were 2 % slower; the wire takes one at a time anyway.
///
/// Whoever calls has the device's scope open.
final class Copier {
    private final Device device;
    private final StageCounters counters;
    private CopyStream stream;

    Copier(Device device, StageCounters counters) {
        this.device = device;
        this.counters = counters;
    }

    /// Queues the copies of a batch that has been read; the buffer's fence stands behind them.
    void copy(Batch batch, StagingBuffer buffer, SlabRoom.Target target) {
        long start = System.nanoTime();
        if (target.memory().hostView().isPresent()) {
            // A processor's work, and each reader does its own: nothing is queued, so nothing has an order.
            try (CopyStream own = device.openStream()) {
                copyAll(batch, buffer, target, own);
            }
            target.written(batch.wantedBytes());
        } else {
            synchronized (this) {
                if (stream == null) {
                    stream = device.openStream();
                }
                target.awaitLastUsers(stream);
                copyAll(batch, buffer, target, stream);
                stream.record(buffer.copied());
                target.queued(batch.wantedBytes(), stream);
            }
        }
        counters.copyNanos.addAndGet(System.nanoTime() - start);
    }

    private static void copyAll(Batch batch, StagingBuffer buffer, SlabRoom.Target target, CopyStream stream) {
        MemorySegment bytes = buffer.memory().segment();
        for (Batch.Copy copy : batch.copies()) {
            CopyEvent event = Recorder.beginCopy();
            stream.copy(bytes.asSlice(copy.bufferOffset(), copy.bytes()), target.memory(), copy.slabOffset());
            Recorder.endCopy(event, batch.slab(), copy.slabOffset(), copy.bytes());
        }
    }

    /// Gives the stream back; later calls do nothing.
    ///
    /// @param await whether to wait for all copies first, those too that no fence stands behind
    synchronized void finish(boolean await) {
        if (stream == null) {
            return;
        }
        try {
            if (await) {
                awaitAll();
            }
        } finally {
            stream.close();
            stream = null;
        }
    }

    private void awaitAll() {
        try (Fence end = device.newFence()) {
            stream.record(end);
            end.await();
        }
    }
}
