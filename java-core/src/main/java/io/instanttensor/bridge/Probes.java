package io.instanttensor.bridge;

import io.instanttensor.Machine;
import io.instanttensor.device.GpuSurvey;
import io.instanttensor.posix.FileStat;
import io.instanttensor.read.FileProbe;
import io.instanttensor.read.IoUringProbe;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/// Answers for Python's `doctor`, as texts.
final class Probes {
    private Probes() {}

    /// The components of [GpuSurvey], then those of each [GpuSurvey.Gpu].
    static String[] gpus(int opened) {
        GpuSurvey survey = Machine.gpus(opened);
        List<String> flat = new ArrayList<>(List.of(survey.state().name(), survey.reason(), survey.bindings(),
                String.valueOf(survey.cudaVersion())));
        for (GpuSurvey.Gpu gpu : survey.gpus()) {
            flat.addAll(List.of(gpu.name(), String.valueOf(gpu.totalBytes()), String.valueOf(gpu.freeBytes()),
                    gpu.refusal()));
        }
        return flat.toArray(String[]::new);
    }

    /// Why io_uring cannot be used; empty where it can.
    static String[] ioUring() {
        return new String[] {IoUringProbe.refusal()};
    }

    /// Why the file takes no direct reads (empty where it does), how many bytes one brought, whether the
    /// kernel says alignments, that of offsets, that of memory; the cached fraction and the call that told.
    static String[] storage(Path file) throws IOException {
        FileProbe probe = FileProbe.of(file);
        FileStat stat = probe.stat();
        return new String[] {
            probe.directRefusal(), String.valueOf(probe.directBytes()), String.valueOf(stat.saysDirect()),
            String.valueOf(stat.directOffsetAlignBytes()), String.valueOf(stat.directMemoryAlignBytes()),
            String.valueOf(probe.cachedFraction()), probe.cacheMethod()
        };
    }
}
