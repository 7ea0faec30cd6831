"""Times one loader over a checkpoint, in a process of its own, and prints what it found as JSON, a line each: the last
one holds most.

    python tests/bench/time_loader.py LOADER FOLDER [OPENS] [--consume keep] [--cache cold] [--memory] [--check] ...

From the call that opens to a synchronisation behind the last tensor. CUDA's context is up before; so is our JVM,
whose start is timed apart. LOADER is one of those in loaders.py. Opens after the first are later opens in the same
process. --memory loads once more, and watches memory; --check once more, for a checksum over every tensor.
BENCH_DEVICE=cpu loads to the host.
"""

import argparse
import glob
import json
import os
import sys
import time

import checkpoints
import page_cache


def boot_seconds():
    """Starts our JVM."""
    from instanttensor import _bridge

    start = time.perf_counter()
    _bridge.engine()
    return time.perf_counter() - start


def version(loader):
    """Of the package that was run."""
    import importlib.metadata

    from loaders import LOADERS

    package = LOADERS[loader].package
    try:
        return importlib.metadata.version(package) if package else None
    except importlib.metadata.PackageNotFoundError:
        return None  # ours, run from its sources


def nobody():
    """Whom a process meets that loads by itself."""


def measure(loader, files, device, arguments, meet=nobody, **options):
    """All opens of one process, as JSON wants it; then the same with what more loads have found.

    Parameters
    ----------
    meet : callable
        Called before each load, and before each measuring of memory: waits for all processes that load together.
    **options
        For the loader.
    """
    import functools
    import importlib

    import consuming
    import memory
    import torch
    from loaders import LOADERS, READ_ONLY, is_ours

    # Of all loaders alike: what is timed is loading.
    importlib.import_module(LOADERS[loader].module)

    headers = [checkpoints.read_header(path) for path in files]
    sizes = [end - start for header in headers for start, end in (e["data_offsets"] for e in header.values())]
    del headers
    rates = memory.pinned_rates(device, meet)
    torch.zeros(1, device=device)
    consuming.synchronize(device)
    memory.settle(device, memory.PINNED_BLOCK_BYTES)
    before_boot = sum(memory.resident().values())
    boot = boot_seconds() if is_ours(loader) else None
    boot_bytes = sum(memory.resident().values()) - before_boot
    parameters = consuming.parameters_of(files, device) if arguments.consume == "parameter" else None
    # Before the first open: what a loader keeps from one to the next is counted as well.
    watch = memory.Watch(device)
    opened = functools.partial(LOADERS[loader].open, **options)
    opens, cached = [], []

    def load():
        cached.append(page_cache.prepare(files, arguments.cache))
        meet()
        done = consuming.timed(opened, files, device, arguments.consume, parameters)
        wanted = {"first": min(1, len(sizes))}.get(arguments.consume, len(sizes))
        memory.settle(device, max(sizes, default=0) if arguments.consume == "first" else sum(sizes))
        if loader not in READ_ONLY and done["tensors"] != wanted:
            sys.exit(f"{loader} yielded {done['tensors']} tensors of {wanted}")
        return done

    while len(opens) < arguments.opens and sum(one["seconds"] for one in opens) <= arguments.enough:
        opens.append(load())
    found = {
        "loader": loader, "version": version(loader), "device": device, "consume": arguments.consume,
        "tensors": len(sizes), "bytes": sum(sizes), "largest_bytes": max(sizes, default=0),
        "seconds": [one["seconds"] for one in opens], "open_seconds": [one["open_seconds"] for one in opens],
        "close_seconds": [one["close_seconds"] for one in opens],
        "python_seconds": [one["python_seconds"] for one in opens],
        "stats": opens[-1]["stats"], "page_cache": cached, "boot_seconds": boot,
        "pinned_rates": rates, "pinned_rate": max(rates, default=None),
    }  # fmt: skip
    yield found
    if arguments.memory:
        with watch:
            stats = load()["stats"]
        found["memory"] = {
            **watch.found(), "boot_bytes": boot_bytes,
            # Asked at the end: it pins memory, which nobody has done before the first open.
            "pinned_is_resident": memory.is_registered_resident(device),
            "pinned_bytes": stats.get("pinned_bytes"), "slab_bytes": stats.get("peak_buffer_bytes"),
        }  # fmt: skip
    if arguments.check and arguments.consume != "first" and loader not in READ_ONLY:
        found["checksum"] = consuming.checksum(opened, files, device, arguments.consume)
    yield found


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("loader")
    add("folder")
    add("opens", nargs="?", type=int, default=1)
    add("--enough", type=float, default=float("inf"), help="no further open after so many seconds of loading")
    add("--files", type=int, help="only the first so many")
    add("--consume", default="drop", choices=("drop", "keep", "parameter", "first"))
    add("--cache", default="as is", choices=("as is", "cached", "half", "cold"), help="page cache before an open")
    add("--cpus", type=int, help="run on so many CPUs")
    add("--memory", action="store_true")
    add("--check", action="store_true")
    arguments = parser.parse_args(argv)
    if arguments.cpus:
        # Before torch and Java count them.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cpus])
    files = sorted(glob.glob(f"{arguments.folder}/*.safetensors"))[: arguments.files]
    if not files:
        sys.exit(f"{arguments.folder} holds no safetensors file")
    from machine import DEVICE

    for found in measure(arguments.loader, files, DEVICE, arguments):
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
