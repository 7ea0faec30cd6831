"""Runs all loaders side by side and prints the table of the README, in Markdown.

    python tests/bench/suite.py [--cpp-path DIR] [--disk DIR] [--moe-gb 61.6] [--rounds 3]

Checkpoints are made where they are not there yet: in --folder, which should be in memory, and with --disk
one on disk, which is read through the page cache. Loaders take turns, each time in a new process
(time_loader.py); the figures are medians. Loaders that cannot be imported are left out. --cpp-path is a
folder with the C++ package instanttensor, for the loaders "cpp" and "cpp-copy".
"""

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
DEVICE = os.environ.get("BENCH_DEVICE", "cuda")
SHARD_GB = 3.85
SMALL_BYTES = 64 << 10
MIB = 1 << 20
NONE = "–"
# The module that tells whether it is there, and its name in the table.
LOADERS = {
    "ours": ("instanttensor._bridge", "InstantTensor for Java, copy=False"),
    "ours-copy": ("instanttensor._bridge", "InstantTensor for Java, copy=True"),
    "cpp": ("instanttensor", "InstantTensor (C++), copy=False"),
    "cpp-copy": ("instanttensor", "InstantTensor (C++), copy=True"),
    "fastsafetensors": ("fastsafetensors", "fastsafetensors"),
    "runai": ("runai_model_streamer", "Run:ai Model Streamer"),
    "safetensors": ("safetensors", "safetensors"),
}
NAMES = {loader: name for loader, (_, name) in LOADERS.items()}
PACKAGES = ("torch", "safetensors", "fastsafetensors", "runai-model-streamer")


def environment(loader, arguments, **more):
    """Of a loader's process: the C++ package has our name, so it has to come first, or not at all."""
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if loader.startswith("cpp"):
        paths.insert(0, os.path.abspath(arguments.cpp_path))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **more}


def missing(loader, arguments):
    """Why a loader is left out; None if it is not."""
    script = f"import sys, torch, {LOADERS[loader][0]}"
    if loader.startswith("cpp"):
        if not arguments.cpp_path:
            return "no --cpp-path"
        script += "; 'instanttensor._bridge' in sys.modules and sys.exit('it is not in --cpp-path')"
    options = {"env": environment(loader, arguments), "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-c", script], **options, check=False)
    return last_line(done.stderr, "it cannot be imported") if done.returncode else None


def last_line(text, otherwise):
    return (text.strip().splitlines() or [otherwise])[-1][:200]


def make(kind, folder, needed_bytes, *numbers):
    """Makes a checkpoint unless it is there; answers why it cannot, or None."""
    made = folder / "made"
    if made.exists() and made.read_text() == f"{numbers}":
        return None
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder.parent).free
        if free < needed_bytes * 1.02:
            return f"{folder.parent} has {free / 1e9:.1f} GB free, {needed_bytes / 1e9:.1f} are needed"
        script = [sys.executable, str(HERE / "make_checkpoint.py"), kind, str(folder), *map(str, numbers)]
        print(f"making {folder}", file=sys.stderr)
        subprocess.run(script, check=True, stdout=sys.stderr)
        made.write_text(f"{numbers}")
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        return f"{folder} could not be made: {error}"
    return None


def make_moe(folder, gigabytes):
    shards = max(1, round(gigabytes / SHARD_GB))
    # Every shard ends with a whole layer: a little more than asked for.
    return make("moe", folder, int(gigabytes * 1e9) + shards * 80 * MIB, shards, gigabytes / shards)


def time_once(loader, folder, opens, arguments, watch_memory):
    """One process: its JSON, or an error as text."""
    command = [sys.executable, str(HERE / "time_loader.py"), loader, str(folder), str(opens)]
    options = {"env": environment(loader, arguments, **({"BENCH_MEMORY": "1"} if watch_memory else {}))}
    try:
        done = subprocess.run(command, **options, capture_output=True, text=True, timeout=arguments.limit, check=False)
        if done.returncode:
            return last_line(done.stderr, f"exit status {done.returncode}")
        return json.loads(done.stdout.strip().splitlines()[-1])
    except subprocess.TimeoutExpired:
        return f"not within {arguments.limit} s"
    except (ValueError, IndexError):
        return f"no figures: {done.stdout[-200:]!r}"


class Figures:
    """What the processes of one loader over one checkpoint said."""

    def __init__(self, done=()):
        self.done = list(done)
        self.error = None

    def add(self, answer):
        if isinstance(answer, str):
            self.error = answer
        else:
            self.done.append(answer)

    def median(self, pick, form):
        """The median of what `pick` finds in each answer, written by `form`; a dash if there is nothing."""
        found = [value for answer in self.done for value in pick(answer) if value is not None]
        return form(statistics.median(found)) if found else NONE

    def first(self):
        return self.median(lambda a: [a["bytes"] / a["seconds"][0] / 1e9], "{:.1f}".format)

    def later(self):
        return self.median(lambda a: [a["bytes"] / seconds / 1e9 for seconds in a["seconds"][1:]], "{:.1f}".format)

    def first_ms(self):
        return self.median(lambda a: [a["seconds"][0] * 1e3], "{:.1f}".format)

    def device_mib(self):
        return self.median(lambda a: [a["device_bytes"]], lambda size: f"{size / MIB:,.0f}")

    def boot_ms(self):
        return self.median(lambda a: [a["boot_seconds"]], lambda seconds: f"{seconds * 1e3:.0f}")

    def pinned(self):
        return self.median(lambda a: [a["pinned_rate"]], "{:.1f}".format)


def measure(checkpoints, loaders, arguments):
    """Figures by checkpoint and loader; in turns, so that what changes with time meets all of them."""
    figures = {(name, loader): Figures() for name in checkpoints for loader in loaders}
    for name, (folder, cached) in checkpoints.items():
        for turn in range(arguments.rounds):
            for loader in loaders:
                own = figures[name, loader]
                if own.error is not None:
                    continue  # it would only take the same time again
                if cached:
                    subprocess.run(["cat", *folder.glob("*.safetensors")], stdout=subprocess.DEVNULL, check=True)
                own.add(time_once(loader, folder, arguments.opens, arguments, watch_memory=turn == 0))
                print(f"{name}, round {turn + 1}: {loader} {own.error or own.done[-1]['seconds']}", file=sys.stderr)
    return figures


def machine():
    """One line that says where the figures come from."""
    parts = []
    if DEVICE == "cuda":
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        try:
            lines = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip().splitlines()
            gpu, driver = lines[0].split(", ")
            parts += [f"{len(lines)} × {gpu}", f"driver {driver}"]
        except (OSError, subprocess.CalledProcessError, ValueError, IndexError):
            parts += ["GPU unknown"]
    cpus = Path("/proc/cpuinfo").read_text()
    model = next((line.split(": ", 1)[1] for line in cpus.splitlines() if line.startswith("model name")), "CPU unknown")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    parts += [f"{len(os.sched_getaffinity(0))} CPUs ({model}), {memory:.0f} GiB"]
    parts += [f"Linux {platform.release()}, Python {platform.python_version()}"]
    versions = {found.name.lower(): found.version for found in importlib.metadata.distributions()}
    return ", ".join(parts + [f"{name} {versions[name]}" for name in PACKAGES if name in versions])


def table(columns, rows):
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def report(figures, loaders, sizes, notes):
    empty = Figures()
    rows = []
    for loader in loaders:
        moe, small, tiny, disk = (figures.get((name, loader), empty) for name in ("moe", "small", "tiny", "disk"))
        rows.append([
            NAMES[loader], moe.first(), moe.later(), moe.device_mib(), small.first(), disk.later(),
            tiny.first_ms(), tiny.device_mib(),
        ])  # fmt: skip
    print(f"\n{machine()}\n")
    print(table([
        "", f"{sizes['moe']}, first open, GB/s", "later opens, GB/s", "device memory, MiB",
        f"{sizes['small']}, GB/s", f"{sizes['disk']} on disk, cached, later opens, GB/s",
        "100-byte file, ms", "its device memory, MiB",
    ], rows))  # fmt: skip
    together = Figures([answer for own in figures.values() for answer in own.done])
    print(f"\nPinned host to device: {together.pinned()} GB/s. Java and bridge up: {together.boot_ms()} ms.")
    for (name, loader), own in figures.items():
        if own.error is not None:
            notes.append(f"{NAMES[loader]}, {sizes[name]}: {own.error}")
    print("\n".join([""] + [f"- {note}" for note in notes]) if notes else "")


def arguments_of(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--folder", type=Path, default=Path("/dev/shm/instanttensor-bench"))
    add("--disk", type=Path, help="a folder on disk")
    add("--cpp-path", help="a folder with the C++ package")
    add("--loaders", default=",".join(LOADERS), help="which, with commas between them")
    add("--rounds", type=int, default=3)
    add("--opens", type=int, default=3, help="in one process")
    add("--limit", type=float, default=300, help="seconds that one process may take")
    add("--moe-gb", type=float, default=61.6)
    add("--small-tensors", type=int, default=60_000)
    add("--disk-gb", type=float, default=15)
    return parser.parse_args(argv)


def main(argv):
    arguments = arguments_of(argv)
    notes = []
    folder, disk = arguments.folder, arguments.disk
    count, room = arguments.small_tensors, arguments.small_tensors * (SMALL_BYTES + 100)
    wanted = {
        "moe": (folder / "moe", False, make_moe(folder / "moe", arguments.moe_gb)),
        "small": (folder / "small", False, make("small", folder / "small", room, count, SMALL_BYTES)),
        "tiny": ((disk or folder) / "tiny", False, make("tiny", (disk or folder) / "tiny", 200)),
        "disk": (disk / "moe", True, make_moe(disk / "moe", arguments.disk_gb)) if disk else (None, True, "no --disk"),
    }
    sizes = {
        "moe": f"{arguments.moe_gb:g} GB", "disk": f"{arguments.disk_gb:g} GB", "tiny": "100-byte file",
        "small": f"{count:,} × {SMALL_BYTES >> 10} KiB",
    }  # fmt: skip
    notes += [f"{sizes[name]} ({name}) left out: {why}" for name, (_, _, why) in wanted.items() if why]
    absent = {loader: missing(loader, arguments) for loader in arguments.loaders.split(",")}
    notes += [f"{NAMES[loader]} left out: {why}" for loader, why in absent.items() if why]
    loaders = [loader for loader, why in absent.items() if why is None]
    checkpoints = {name: (path, cached) for name, (path, cached, why) in wanted.items() if why is None}
    report(measure(checkpoints, loaders, arguments), loaders, sizes, notes)


if __name__ == "__main__":
    main(sys.argv[1:])
