"""Measures loaders side by side on slow storages: those that the emulator of tests/storage makes, and a disk.

    BENCH_DEVICE=cpu python tests/bench/slow_storage.py [--rows latency] [--disk DIR] [--file-mib 64] [--out FOLDER]

Takes root. Rows and bars are in storage_rows.py. Every open has a process of its own (time_loader.py) and a mount of
its own, so the page cache holds only what the row asks for; files on disk are dropped from it. Checkpoints on emulated
storages are holes behind their headers, in --folder, which should be in memory: the emulator is not to wait for a disk.
All loaders load all files of a row; but of those that read one file after the other, one is enough in some rows.

Every answer is appended to OUT/results.jsonl, with what the emulator has counted meanwhile. The exit status is 1 where
our own loader failed.
"""

import argparse
import signal
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import report
import results as results_of
import run
from machine import HERE, missing, state
from storage_rows import FULL_FILE_MIB, rows

EVERY_SECONDS = 0.05
SETTLED_SECONDS = 1.0
SETTLED_PART = 0.05


@dataclass(frozen=True)
class Sample:
    """What the storage saw in a stretch of time that ended at `at` (perf_counter)."""

    at: float
    seconds: float
    requests: int
    direct_requests: int
    bytes: int
    largest_bytes: int
    in_flight_most: int
    in_flight_mean: float


class Watch:
    """Samples of an emulator's counts while a context lasts; meanwhile nobody else may talk to the emulator."""

    def __init__(self, mounted):
        self._mounted = mounted
        self._stop = threading.Event()
        self.samples = []

    def _look(self):
        counts = self._mounted.counts()
        self._mounted.reset()
        wanted = {name: getattr(counts, name) for name in Sample.__dataclass_fields__ if name != "at"}
        self.samples.append(Sample(time.perf_counter(), **wanted))

    def _watch(self):
        while not self._stop.wait(EVERY_SECONDS):
            self._look()

    def __enter__(self):
        self._mounted.reset()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self._look()


def _mean(samples):
    seconds = sum(sample.seconds for sample in samples)
    return sum(sample.in_flight_mean * sample.seconds for sample in samples) / seconds if seconds else None


def summary(samples, load_seconds):
    """What the storage saw of a load: the last `load_seconds` before its last request.

    Settled is what follows the first second and the first 5 % of the bytes, whichever is later; its figures are None
    where nothing follows.
    """
    busy = [at for at, sample in enumerate(samples) if sample.requests]
    if not busy:
        return None
    samples = samples[: busy[-1] + 1]
    start = samples[-1].at - load_seconds
    # A stretch counts as a whole: the one in which the load begins as well.
    load = [sample for sample in samples if sample.at > start]
    all_bytes, done, settled = sum(sample.bytes for sample in load), 0, []
    for sample in load:
        if sample.at - sample.seconds - start >= SETTLED_SECONDS and done >= SETTLED_PART * all_bytes:
            settled.append(sample)
        done += sample.bytes
    return {
        "requests": sum(sample.requests for sample in load),
        "direct_requests": sum(sample.direct_requests for sample in load),
        "bytes": all_bytes,
        "largest_bytes": max(sample.largest_bytes for sample in load),
        "in_flight_most": max(sample.in_flight_most for sample in load),
        "in_flight_mean": _mean(load),
        "settled_most": max((sample.in_flight_most for sample in settled), default=None),
        "settled_mean": _mean(settled),
    }


def time_emulated(loader, folder, checkpoint, chosen, arguments, watch_memory):
    """As `run.time_once`, with the storage that the row wants under the checkpoint."""
    checkpoint = replace(checkpoint, files=chosen.files_of(loader))
    if chosen.emulator is None:
        return run.time_once(loader, folder, checkpoint, chosen, arguments, False)
    with emulator().Emulator(folder, **chosen.emulator) as mounted:
        with Watch(mounted) as watch:
            answer = run.time_once(loader, mounted.path, checkpoint, chosen, arguments, False)
    if not isinstance(answer, str):
        answer["storage"] = summary(watch.samples, answer["seconds"][0])
    return answer


def emulator():
    """The module of tests/storage."""
    folder = str(HERE.parent / "storage")
    if folder not in sys.path:
        # Last, so that its names shadow nobody's.
        sys.path.append(folder)
    import emulator

    return emulator


def storage_table(found, cases):
    """What the storage saw, by row and loader."""
    lines = []
    for case in cases:
        for loader in found.loaders(case.name):
            seen = found.answers(case.name, loader)[-1].get("storage")
            if seen is None:
                continue
            depth = [f"{seen[name]:,.1f}" if seen[name] is not None else report.NONE
                     for name in ("in_flight_most", "in_flight_mean", "settled_most", "settled_mean")]  # fmt: skip
            lines.append([
                case.name, loader, f"{seen['bytes'] / 1e6:,.0f}", f"{seen['requests']:,}",
                f"{seen['direct_requests'] / max(1, seen['requests']):.0%}", f"{seen['largest_bytes'] >> 10:,}", *depth,
            ])  # fmt: skip
    head = [
        "storage", "loader", "MB", "requests", "direct", "largest, KiB", "in flight at most", "mean",
        "settled: at most", "mean",
    ]  # fmt: skip
    return report.table(head, lines) if lines else ""


def render(records, cases):
    """The whole text."""
    found = results_of.Results(records)
    return "\n".join(part for part in (report.render(records, cases), storage_table(found, cases)) if part) + "\n"


def arguments_of(argv):
    known = rows(FULL_FILE_MIB)
    loaders = list(dict.fromkeys(loader for row in known for loader in row.loaders))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--rows", default=",".join(row.name for row in known), help="which, with commas between them: %(default)s")
    add("--loaders", default=",".join(loaders), help="which: %(default)s")
    add("--rounds", type=int, default=1, help="processes of each loader (%(default)s)")
    add("--limit", type=float, default=300, help="seconds that one process may take (%(default)s)")
    add("--file-mib", type=int, default=FULL_FILE_MIB, help="of each file; bars are judged from %(default)s on")
    add("--folder", type=Path, default=Path("/dev/shm"), help="in memory (%(default)s)")
    add("--disk", type=Path, help="a folder on disk")
    add("--out", type=Path, default=Path(".build/bench/storage"), help="for results (%(default)s)")
    add("--keep", action="store_true", help="leave the checkpoints for the next run")
    fixed = {"opens": 1, "enough": 0, "check": False, "cpp_path": None}
    arguments = parser.parse_args(argv, argparse.Namespace(**fixed))
    run.require_known(parser, "rows", arguments.rows, [row.name for row in known])
    run.require_known(parser, "loaders", arguments.loaders, loaders)
    arguments.scale = "full" if arguments.file_mib >= FULL_FILE_MIB else "small"
    return arguments


def main(argv):
    arguments = arguments_of(argv)
    cases = rows(arguments.file_mib)
    chosen = [row for row in cases if row.name in arguments.rows.split(",")]
    if any(row.emulator is not None for row in chosen):
        try:
            emulator().Emulator(HERE).close()
        except emulator().CannotMountError as error:
            sys.exit(f"no FUSE file system can be mounted here: {error}")
    log = run.Log(arguments.out)
    log.add("run", machine=state(arguments), rounds=arguments.rounds, opens=1)
    absent = {loader: missing(loader, arguments) for loader in arguments.loaders.split(",")}
    for loader, why in absent.items():
        if why is not None:
            log.add("without", loader=loader, why=why)
    run.run_rows(chosen, [loader for loader, why in absent.items() if why is None], arguments, log, time_emulated)
    text = render(results_of.read([log.path]), cases)
    (arguments.out / "report.md").write_text(text, encoding="utf-8")
    print(f"\n{text}")
    try:
        # Imported here: measuring needs no matplotlib.
        from plots import draw

        print(*draw(results_of.read([log.path]), arguments.out), sep="\n")
    except ImportError as error:
        print(f"no plots: {error}", file=sys.stderr)
    return int(log.failed)


if __name__ == "__main__":
    # A run under a time limit ends as by Ctrl-C: with a table of what there is.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
