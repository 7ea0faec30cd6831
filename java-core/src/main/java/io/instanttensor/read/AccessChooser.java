package io.instanttensor.read;

import io.instanttensor.file.CheckpointFile;
import io.instanttensor.file.FileException;
import io.instanttensor.file.ReadUnderWay;
import io.instanttensor.posix.ErrnoException;
import io.instanttensor.posix.Posix;
import java.lang.foreign.Arena;
import java.util.ArrayList;
import java.util.List;

/// Decides, file by file, whether it is read past the page cache or through it, and sets its
/// descriptor accordingly.
public final class AccessChooser {
    /// Where parts cannot be told apart, a file of which less than this lies in the page cache is faster read past it.
    static final double CACHED_ENOUGH = 0.8;
    /// Where they can, every chunk is looked at before it is read: what was there at opening may be gone by then. From
    /// here on, readers are as many as processors.
    static final double CACHED = 0.95;
    /// And up to here, which reading the header leaves, all of it is read past the page cache.
    static final double COLD = 0.01;

    private AccessChooser() {}

    /// @param candidates in the order of preference; empty: whatever is faster
    /// @throws NoBackendException where none of the candidates can serve, with the reason of each
    /// @throws FileException where the file cannot be read at all
    public static FileAccess choose(CheckpointFile file, List<Backend> candidates) throws FileException {
        return choose(file, candidates, false);
    }

    /// @param toHost whether it is known that all will be read to the host
    public static FileAccess choose(CheckpointFile file, List<Backend> candidates, boolean toHost)
            throws FileException {
        DirectSupport support = DirectSupport.of(file);
        List<String> passedOver = new ArrayList<>();
        for (Backend candidate : candidates) {
            String refusal = toHost && candidate.method() == ReadMethod.CUFILE
                    ? "it reads to GPUs, and this load goes to the host"
                    : refusal(file, candidate, support);
            if (refusal.isEmpty()) {
                return asked(candidate, passedOver, support);
            }
            passedOver.add(candidate + ": " + refusal);
        }
        if (!candidates.isEmpty()) {
            throw new NoBackendException(file.path(), passedOver);
        }
        return whateverIsFaster(file, support);
    }

    /// Why a candidate cannot serve. Empty where it can; then the descriptor has been set for it.
    private static String refusal(CheckpointFile file, Backend candidate, DirectSupport support)
            throws FileException {
        String refusal = candidate.method().refusal(file);
        if (refusal.isEmpty() && candidate.direct()) {
            refusal = support.available() ? switchToDirect(file, support) : support.reason();
        }
        if (!refusal.isEmpty()) {
            return refusal;
        }
        refusal = candidate.method().prepare(file);
        if (!refusal.isEmpty() && candidate.direct()) {
            switchToBuffered(file);
        }
        return refusal;
    }

    private static FileAccess asked(Backend candidate, List<String> passedOver, DirectSupport support) {
        String reason = candidate + " was asked for: " + candidate.method().call();
        return candidate.direct()
                ? direct(candidate, reason + " past the page cache", passedOver, support)
                : buffered(candidate, reason + " through the page cache", passedOver, support.inMemory());
    }

    private static FileAccess whateverIsFaster(CheckpointFile file, DirectSupport support) throws FileException {
        if (!support.available()) {
            return buffered(null, support.reason(), List.of(), support.inMemory());
        }
        PageCacheProbe.Finding finding = PageCacheProbe.probe(file);
        String found = Math.round(finding.cachedFraction() * 100)
                + " % of it in the page cache at opening (" + finding.method() + ")";
        boolean cached = finding.cachedFraction() >= (finding.byRange() ? CACHED : CACHED_ENOUGH);
        if (cached && !finding.byRange()) {
            return buffered(null, found, List.of(), true);
        }
        String refusal = switchToDirect(file, support);
        if (!refusal.isEmpty()) {
            return buffered(null, "direct I/O refused: " + refusal, List.of(), cached);
        }
        if (finding.byRange() && finding.cachedFraction() > COLD) {
            // For what is there; each reader opens it once more for the rest.
            switchToBuffered(file);
            return new FileAccess(FileAccess.Mode.MIXED, null, found, List.of(), support.alignmentBytes(), cached);
        }
        return direct(null, found, List.of(), support);
    }

    /// Returns why not; empty where it worked.
    private static String switchToDirect(CheckpointFile file, DirectSupport support) throws FileException {
        try {
            Posix.setDirect(file.descriptor());
        } catch (ErrnoException e) {
            return e.getMessage();
        }
        if (file.stat().saysDirect()) {
            return "";
        }
        // Nobody promised that it works, so try: some file systems take the flag and refuse the read.
        try (Arena arena = Arena.ofConfined(); ReadUnderWay read = ReadUnderWay.ofThread()) {
            read.begin(file, 0, support.alignmentBytes());
            Posix.pread(file.descriptor(), arena.allocate(support.alignmentBytes(), support.alignmentBytes()), 0);
            return "";
        } catch (ErrnoException e) {
            switchToBuffered(file);
            return e.getMessage();
        }
    }

    private static void switchToBuffered(CheckpointFile file) throws FileException {
        try {
            Posix.clearDirect(file.descriptor());
        } catch (ErrnoException stuck) {
            throw new FileException(file.path(), stuck.errno(), stuck.getMessage());
        }
    }

    private static FileAccess buffered(
            Backend backend, String reason, List<String> passedOver, boolean inMemory) {
        return new FileAccess(FileAccess.Mode.BUFFERED, backend, reason, List.copyOf(passedOver), 1, inMemory);
    }

    private static FileAccess direct(
            Backend backend, String reason, List<String> passedOver, DirectSupport support) {
        return new FileAccess(
                FileAccess.Mode.DIRECT, backend, reason, List.copyOf(passedOver), support.alignmentBytes(), false);
    }
}
