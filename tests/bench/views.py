"""What torch alone takes to make a tensor of each part of a slab and to let it go: by itself, and beside processes that
read as much as they can. No loader is involved.

    python tests/bench/views.py FILE [--readers 14 ...] [--at-once 256 ...] [--device cuda]

FILE is one of some GB in memory, for the readers; several numbers of them are tried one after the other. Prints
microseconds a tensor, medians over many slabs: what Python's part of a load of 60,000 tensors cannot be less than.
"split" is torch.unsafe_split_with_sizes, which our loader uses; "unbound" is unbind, whose tensors are views for
autograd too. "a loop" is a turn of an empty loop meanwhile: where it takes twice as long, somebody else has half of the
processor.
"""

import argparse
import contextlib
import itertools
import mmap
import multiprocessing
import os
import statistics
import time

from machine import DEVICE
from run import count

SLAB_BYTES = 128 << 20
TENSOR_BYTES = 64 << 10
READ_BYTES = 2 << 20
SLABS = 200
TURNS = 4000


def read(path, ready):
    """Reads a file again and again, until the process is ended."""
    with open(path, "rb", buffering=0) as file, mmap.mmap(-1, READ_BYTES) as buffer:
        size = os.fstat(file.fileno()).st_size
        ready.release()
        for turn in itertools.count():
            os.preadv(file.fileno(), [buffer], turn * READ_BYTES % max(1, size - READ_BYTES))


@contextlib.contextmanager
def reading(file, count):
    """So many processes read while the context is open."""
    spawned = multiprocessing.get_context("spawn")
    ready = spawned.Semaphore(0)
    readers = [spawned.Process(target=read, args=(file, ready), daemon=True) for _ in range(count)]
    try:
        for reader in readers:
            reader.start()
        for _ in readers:
            while not ready.acquire(timeout=1):
                if any(reader.exitcode is not None for reader in readers):
                    raise OSError(f"{file} could not be read")
        yield
    finally:
        for reader in readers:
            reader.kill()
            reader.join()


def unbound(slab, first, count, elements):
    """As torch makes many views: it remembers whose they are."""
    return slab.as_strided((count, elements), (elements, 1), first * elements).unbind(0)


def split(slab, first, count, elements):
    """As our loader makes them."""
    rows = slab.as_strided((count * elements,), (1,), first * elements)
    return rows.unsafe_split_with_sizes([elements] * count)


WAYS = (split, unbound)


def measured(device, at_once):
    """Microseconds of a tensor, by the ways of making them, so many in each call of torch's; and nanoseconds of a turn
    of a loop. Medians over slabs, which are gone through in all ways and numbers."""
    import torch

    elements = TENSOR_BYTES // 2
    slab = torch.empty(SLAB_BYTES // 2, dtype=torch.bfloat16, device=device)
    count = SLAB_BYTES // TENSOR_BYTES
    found, loops = {(way, number): [] for number in at_once for way in WAYS}, []
    for _ in range(SLABS):
        loops.append(loop_nanoseconds())
        for (way, number), taken in found.items():
            names = [f"model.layers.{i}.weight" for i in range(count)]
            start = time.perf_counter()
            parts = (way(slab, first, min(number, count - first), elements) for first in range(0, count, number))
            for _name, _tensor in zip(names, itertools.chain.from_iterable(parts)):
                pass
            taken.append((time.perf_counter() - start) / count * 1e6)
    return told(found, loops)


def loop_nanoseconds():
    """Of a turn of an empty loop."""
    start = time.perf_counter()
    for _ in range(TURNS):
        pass
    return (time.perf_counter() - start) / TURNS * 1e9


def told(found, loops):
    """The medians in a line, of microseconds by ways and numbers, and of a loop's nanoseconds."""
    ways = ", ".join(
        f"{way.__name__.replace('_', ' ')} {number}: {statistics.median(taken):.2f}"
        for (way, number), taken in found.items()
    )
    return f"{ways} µs a tensor; a loop {statistics.median(loops):.0f} ns"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--readers", type=int, nargs="+", default=[14], help="%(default)s")
    parser.add_argument("--at-once", type=count, nargs="+", default=[256], help="made in a call: %(default)s")
    parser.add_argument("--device", default=DEVICE, help="%(default)s")
    arguments = parser.parse_args()
    if not os.path.isfile(arguments.file):
        parser.error(f"{arguments.file} is no file")
    print(f"by itself: {measured(arguments.device, arguments.at_once)}")
    for readers in arguments.readers:
        with reading(arguments.file, readers):
            print(f"beside {readers} readers: {measured(arguments.device, arguments.at_once)}")


if __name__ == "__main__":
    main()
