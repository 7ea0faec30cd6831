"""Errors, short replies, stalls, files that are cut and direct reads that are refused: when the options say so."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from emulator import PATIENCE_S
from emulator_support import (
    BUFFERED_AND_DIRECT,
    DIRECT,
    FILE_BYTES,
    LATE_S,
    MIB,
    Mount,
    eventually,
    is_mounted,
    opened,
    read,
    read_once,
    seconds_of,
)

# ------------------------------------------------------------------------------- errors and short replies


@BUFFERED_AND_DIRECT
def test_reads_that_touch_a_range_fail(mount: Mount, folder: Path, content: bytes, flags: int) -> None:
    mounted = mount(folder, error_from=3 * MIB + 4096, error_bytes=1)
    with opened(mounted.path / "a", flags) as descriptor:
        assert read(descriptor, 4096, 3 * MIB) == content[3 * MIB :][:4096]
        with pytest.raises(OSError) as caught:
            read(descriptor, 4096, 3 * MIB + 4096)
        assert caught.value.errno == errno.EIO
        assert mounted.counts().errors >= 1
        mounted.set(error_bytes=0)
        assert read(descriptor, 4096, 3 * MIB + 4096) == content[3 * MIB + 4096 :][:4096]


def failing(path: Path) -> list[int]:
    """Offsets, in pages, at which a direct read gives EIO; from behind, by two readers."""

    def fails(page: int) -> bool:
        try:
            return len(read(descriptor, 4096, page * 4096)) != 4096
        except OSError as e:
            assert e.errno == errno.EIO
            return True

    pages = range(FILE_BYTES // 4096)
    with opened(path, DIRECT) as descriptor, ThreadPoolExecutor(2) as pool:
        found = list(pool.map(fails, reversed(pages)))
    return [page for page in pages if found[-1 - page]]


def test_errors_are_one_request_in_so_many_and_the_same_for_a_seed(mount: Mount, folder: Path) -> None:
    mounted = mount(folder, error_every=16, seed=1)
    first = failing(mounted.path / "a")
    # 2048 pages, so 128 on average.
    assert 80 <= len(first) <= 180
    assert mounted.counts().errors == len(first)
    assert failing(mounted.path / "b") != first
    mounted.set(seed=2)
    assert failing(mounted.path / "a") != first
    assert failing(mount(folder, error_every=16, seed=1).path / "a") == first


@BUFFERED_AND_DIRECT
def test_short_replies_reach_the_reader_and_no_byte_is_lost(
    mount: Mount, folder: Path, content: bytes, flags: int
) -> None:
    mounted = mount(folder, short_every=2, short_bytes=512 << 10)
    found = b""
    with opened(mounted.path / "a", flags) as descriptor:
        while piece := read(descriptor, MIB, len(found)):
            assert len(piece) in (MIB, 512 << 10)
            found += piece
    assert found == content
    assert 1 <= mounted.counts().shorts < mounted.counts().requests


def test_a_short_reply_has_half_of_the_bytes_and_at_least_one(mount: Mount, folder: Path) -> None:
    path = mount(folder, short_every=1).path / "a"
    assert len(read_once(path, MIB, 0)) == MIB // 2
    assert len(read_once(path, 100, 0, flags=0)) == 50
    assert len(read_once(path, 1, 0, flags=0)) == 1


# ------------------------------------------------------------------------------- stalls


@BUFFERED_AND_DIRECT
def test_a_stalled_read_waits_until_told_and_others_go_on(
    mount: Mount, folder: Path, content: bytes, flags: int
) -> None:
    mounted = mount(folder, stall_from=4 * MIB, stall_bytes=1)
    with opened(mounted.path / "a", flags) as descriptor, ThreadPoolExecutor(1) as pool:
        stalled = pool.submit(read, descriptor, 4096, 4 * MIB)
        eventually(lambda: mounted.counts().stalled == 1, "the read stalls")
        assert read(descriptor, 4096, 0) == content[:4096]
        time.sleep(0.1)
        assert not stalled.done()
        mounted.release()
        assert stalled.result(PATIENCE_S) == content[4 * MIB :][:4096]
    assert mounted.counts().in_flight == 0


def test_a_stall_of_some_seconds_ends_by_itself(mount: Mount, folder: Path) -> None:
    path = mount(folder, stall_bytes=FILE_BYTES, stall_s=0.3, latency_ms=10).path / "a"
    assert 0.31 <= seconds_of(lambda: read_once(path, MIB, 0)) < 0.31 + LATE_S


@BUFFERED_AND_DIRECT
def test_unmounting_ends_a_stalled_read_with_an_error(mount: Mount, folder: Path, flags: int) -> None:
    mounted = mount(folder, stall_bytes=FILE_BYTES)
    with opened(mounted.path / "a", flags) as descriptor, ThreadPoolExecutor(1) as pool:
        stalled = pool.submit(read, descriptor, MIB, 0)
        eventually(lambda: mounted.counts().stalled >= 1, "the read stalls")
        assert seconds_of(mounted.close) < LATE_S
        assert isinstance(stalled.exception(PATIENCE_S), OSError)
    assert not is_mounted(mounted.path)
    assert not mounted.path.exists()


# ------------------------------------------------------------------------------- truncation, O_DIRECT refused


@BUFFERED_AND_DIRECT
def test_a_file_is_shorter_from_one_moment_on(mount: Mount, folder: Path, content: bytes, flags: int) -> None:
    mounted = mount(folder)
    path = mounted.path / "a"
    with opened(path, flags) as descriptor:
        assert read(descriptor, MIB, 0) == content[:MIB]
        end = 5 * MIB + 1000
        mounted.set(file_bytes=end)
        # The kernel does not know yet.
        assert read(descriptor, MIB, 5 * MIB) == content[5 * MIB : end]
        assert read(descriptor, MIB, 6 * MIB) == b""
        assert os.fstat(descriptor).st_size == path.stat().st_size == end
        mounted.set(file_bytes=-1)
        assert path.stat().st_size == FILE_BYTES
        assert read(descriptor, MIB, 5 * MIB) == content[5 * MIB : 6 * MIB]


def test_direct_reads_can_be_refused(mount: Mount, folder: Path, content: bytes) -> None:
    path = mount(folder, refuse_direct=True).path / "a"
    with pytest.raises(OSError) as caught:
        read_once(path, MIB, 0)
    assert (caught.value.errno, caught.value.filename) == (errno.EINVAL, str(path))
    with opened(path) as descriptor:
        assert read(descriptor, MIB, 0) == content[:MIB]
        fcntl.fcntl(descriptor, fcntl.F_SETFL, DIRECT)
        with pytest.raises(OSError) as caught:
            read(descriptor, MIB, MIB)
        assert caught.value.errno == errno.EINVAL


def test_one_file_alone_can_be_meant(mount: Mount, folder: Path, content: bytes) -> None:
    mounted = mount(folder, file="b", file_bytes=4096, error_from=8192, error_bytes=4096, stall_bytes=1)
    assert (mounted.path / "a").stat().st_size == FILE_BYTES
    assert read_once(mounted.path / "a", FILE_BYTES, 0) == content
    assert (mounted.path / "b").stat().st_size == 4096
    mounted.set(file="")
    assert (mounted.path / "a").stat().st_size == 4096
