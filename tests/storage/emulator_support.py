"""What the emulator's tests read with, and how they wait."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from emulator import PATIENCE_S, Emulator

MIB = 1 << 20
FILE_BYTES = 8 * MIB
# What a busy machine may add to a time.
LATE_S = 3.0

DIRECT = os.O_DIRECT
BUFFERED_AND_DIRECT = pytest.mark.parametrize("flags", [0, DIRECT], ids=["buffered", "direct"])
Mount = Callable[..., Emulator]


@contextmanager
def opened(path: Path, flags: int = 0) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read(descriptor: int, size: int, offset: int) -> bytes:
    """One pread, into memory that suits O_DIRECT."""
    with mmap.mmap(-1, size) as buffer:
        return buffer[: os.preadv(descriptor, [buffer], offset)]


def read_once(path: Path, size: int, offset: int, flags: int = DIRECT) -> bytes:
    with opened(path, flags) as descriptor:
        return read(descriptor, size, offset)


def seconds_of(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def at_once(threads: int, action: Callable[[int], object]) -> list[object]:
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(action, range(threads)))


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.01)


def is_mounted(path: Path | str) -> bool:
    return f" {path} fuse.slow_fs " in Path("/proc/self/mounts").read_text()
