"""What it costs to ask the kernel whether its page cache holds 2 MiB of a file, beside a read of them.

    python tests/bench/page_cache_probes.py FILE

FILE is one on a disk, of 64 MiB or more; it is read first. Microseconds, medians, less those of a
call that does nothing.
"""

import ctypes
import mmap
import os
import statistics
import sys
import time

RANGE_BYTES = 2 << 20
ROUNDS = 200
# cachestat(2) has this number on every architecture; no C library has a function for it.
CACHESTAT = 451
RWF_NOWAIT = 0x8
# On x86-64.
GETPPID = 110

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]


class Range(ctypes.Structure):
    _fields_ = [("offset", ctypes.c_uint64), ("bytes", ctypes.c_uint64)]


class Counts(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("cached", "dirty", "writeback", "evicted", "recently_evicted")]


def microseconds(probe, ranges):
    """The median time of a probe over ranges."""
    taken = []
    for number in range(ROUNDS):
        offset = number % ranges * RANGE_BYTES
        start = time.perf_counter_ns()
        probe(offset)
        taken.append((time.perf_counter_ns() - start) / 1e3)
    return statistics.median(taken)


def main(path):
    size = os.path.getsize(path)
    ranges = size // RANGE_BYTES
    descriptor = os.open(path, os.O_RDONLY)
    buffer = mmap.mmap(-1, RANGE_BYTES)
    one = memoryview(bytearray(1))
    wanted, counts, pages = Range(), Counts(), ctypes.create_string_buffer(RANGE_BYTES // mmap.PAGESIZE)
    mapped = mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY)
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))

    def read(offset):
        os.preadv(descriptor, [buffer], offset)

    def cachestat(offset):
        wanted.offset, wanted.bytes = offset, RANGE_BYTES
        if _libc.syscall(CACHESTAT, descriptor, ctypes.byref(wanted), ctypes.byref(counts), 0):
            sys.exit(f"cachestat: {os.strerror(ctypes.get_errno())}")

    def mincore(offset):
        if _libc.mincore(address + offset, RANGE_BYTES, pages):
            sys.exit(f"mincore: {os.strerror(ctypes.get_errno())}")

    def nothing(offset):
        _libc.syscall(GETPPID, descriptor, ctypes.byref(wanted), ctypes.byref(counts), 0)

    for offset in range(0, ranges * RANGE_BYTES, RANGE_BYTES):
        read(offset)
    base = microseconds(nothing, ranges)
    probes = {
        "cachestat, 2 MiB": cachestat, "mincore, 2 MiB of a mapping": mincore,
        "preadv2 with RWF_NOWAIT, one byte": lambda offset: os.preadv(descriptor, [one], offset, RWF_NOWAIT),
        "pread, 2 MiB": read,
    }  # fmt: skip
    for name, probe in probes.items():
        print(f"{name}: {max(0, microseconds(probe, ranges) - base):.1f} us")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
