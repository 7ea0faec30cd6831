"""What the page cache holds of files: looked at, filled and emptied, without being root."""

import ctypes
import mmap
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

BLOCK_BYTES = 8 << 20
# Less is no longer "cached", more is no longer "cold".
CACHED = 0.99
COLD = 0.01
HALF = (0.47, 0.53)

_libc = ctypes.CDLL(None, use_errno=True)
# int mincore(void *addr, size_t length, unsigned char *vec)
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]


def _resident_pages(path):
    size = os.path.getsize(path)
    if size == 0:
        return 0, 0
    pages = -(-size // mmap.PAGESIZE)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as mapped:
        view = np.frombuffer(mapped, np.uint8)
        found = np.empty(pages, np.uint8)
        failed = _libc.mincore(view.ctypes.data, size, found.ctypes.data)
        del view
        if failed:
            raise OSError(ctypes.get_errno(), f"mincore: {os.strerror(ctypes.get_errno())}", str(path))
    return int((found & 1).sum()), pages


def resident(files):
    """The part of all files that lies in memory, 0 to 1."""
    counts = [_resident_pages(path) for path in files]
    return sum(count for count, _ in counts) / max(1, sum(pages for _, pages in counts))


def read_all(files):
    """Reads every file once, by many threads."""

    def read(path):
        buffer = bytearray(BLOCK_BYTES)
        with open(path, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass

    with ThreadPoolExecutor(min(16, len(os.sched_getaffinity(0)))) as pool:
        list(pool.map(read, files))


def read_first_halves(files):
    """Reads the first half of every file, and has the kernel read nothing ahead."""
    buffer = bytearray(BLOCK_BYTES)
    for path in files:
        with open(path, "rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            left = os.path.getsize(path) // 2
            while left > 0:
                left -= file.readinto(memoryview(buffer)[:left])


def drop(files):
    """Has the kernel forget what it holds of the files."""
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            # What is not written yet stays.
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def prepare(files, state):
    """Brings files into a state, "cached", "cold" or "half" (the first half of each is cached); "as is" leaves them.

    Returns
    -------
    float or None
        The part that lies in memory afterwards; None for "as is".

    Raises
    ------
    RuntimeError
        The kernel does not hold them, or does not let go of them.
    """
    if state == "as is":
        return None
    if state in ("cold", "half"):
        drop(files)
    if state == "half":
        read_first_halves(files)
    elif state == "cached" and resident(files) < CACHED:
        read_all(files)
    found = resident(files)
    least, most = {"cold": (0, COLD), "half": HALF, "cached": (CACHED, 1)}[state]
    if not least <= found <= most:
        raise RuntimeError(f"{found:.1%} of the files lie in the page cache: they should be {state}")
    return found
