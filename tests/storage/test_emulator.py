"""The emulator does what each of its options says, and goes away cleanly. What it does wrong on purpose is in
test_emulator_faults.py.

Times have strict bounds where nothing but the emulator can be early, and generous ones where a busy machine is late.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from emulator import PATIENCE_S, CannotMountError, Emulator, program
from emulator_support import (
    BUFFERED_AND_DIRECT,
    DIRECT,
    FILE_BYTES,
    LATE_S,
    MIB,
    Mount,
    at_once,
    eventually,
    is_mounted,
    opened,
    read,
    read_once,
    seconds_of,
)

_libc = ctypes.CDLL(None, use_errno=True)
# int mincore(void *addr, size_t length, unsigned char *vec)
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]


def resident_bytes(path: Path) -> int:
    """What the page cache holds of a file."""
    with opened(path) as descriptor:
        size = os.fstat(descriptor).st_size
        pages = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
        with mmap.mmap(descriptor, size, flags=mmap.MAP_PRIVATE) as mapped:
            address = (ctypes.c_char * size).from_buffer(mapped)
            failed = _libc.mincore(ctypes.addressof(address), size, ctypes.addressof(pages))
            del address
    assert failed == 0, os.strerror(ctypes.get_errno())
    return sum(page & 1 for page in pages) * mmap.PAGESIZE


# ------------------------------------------------------------------------------- a folder, read-only


@BUFFERED_AND_DIRECT
def test_files_hold_what_the_folder_holds(mount: Mount, folder: Path, content: bytes, flags: int) -> None:
    path = mount(folder).path / "a"
    with opened(path, flags) as descriptor:
        assert b"".join(read(descriptor, MIB, at) for at in range(0, FILE_BYTES, MIB)) == content
        assert read(descriptor, 4096, FILE_BYTES) == b""
        assert os.fstat(descriptor).st_size == FILE_BYTES


def test_folders_links_and_many_names_are_shown(mount: Mount, tmp_path: Path) -> None:
    inner = tmp_path / "blobs" / "inner"
    inner.mkdir(parents=True)
    names = [f"model-{number:05d}-of-00500.safetensors" for number in range(500)]
    for name in names:
        (inner / name).write_text(name)
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown" / "link").symlink_to(inner / names[7])
    (tmp_path / "shown" / "folder").symlink_to(inner)
    path = mount(tmp_path / "shown").path
    assert sorted(os.listdir(path)) == ["folder", "link"]
    assert sorted(os.listdir(path / "folder")) == names
    assert (path / "link").read_text() == (path / "folder" / names[7]).read_text() == names[7]
    assert (path / "link").stat().st_mtime_ns == (inner / names[7]).stat().st_mtime_ns


def test_nothing_can_be_written_and_what_is_missing_is_missing(mount: Mount, folder: Path) -> None:
    path = mount(folder).path
    with pytest.raises(OSError) as caught:
        (path / "a").write_text("")
    assert caught.value.errno == errno.EROFS
    with pytest.raises(FileNotFoundError):
        (path / "c").stat()


def test_the_page_cache_is_as_on_a_network_mount(mount: Mount, folder: Path) -> None:
    mounted = mount(folder)
    path = mounted.path / "a"
    read_once(path, MIB, 0)
    assert resident_bytes(path) == 0
    read_once(path, MIB, 0, flags=0)
    held = resident_bytes(path)
    assert MIB <= held < FILE_BYTES
    mounted.reset()
    # Neither another open nor a direct read changes what is held, and what is held asks nobody.
    read_once(path, MIB, 0, flags=0)
    assert mounted.counts().requests == 0
    read_once(path, MIB, 0)
    read_once(path, MIB, 6 * MIB)
    assert (mounted.counts().requests, resident_bytes(path)) == (2, held)
    with opened(path) as descriptor:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    assert resident_bytes(path) == 0


# ------------------------------------------------------------------------------- requests and counts


def test_a_direct_read_of_1_mib_is_one_request(mount: Mount, folder: Path) -> None:
    mounted = mount(folder)
    with opened(mounted.path / "a", DIRECT) as descriptor:
        read(descriptor, MIB, MIB)
        counts = mounted.counts()
        assert (counts.requests, counts.direct_requests, counts.bytes, counts.largest_bytes) == (1, 1, MIB, MIB)
        read(descriptor, 4 * MIB, 0)
        assert mounted.counts().requests == 5
    counts = mounted.counts()
    assert (counts.opens, counts.direct_opens, counts.in_flight, counts.errors, counts.shorts) == (1, 1, 0, 0, 0)
    assert counts.metadata >= 2
    mounted.reset()
    assert (mounted.counts().requests, mounted.counts().in_flight_most) == (0, 0)


def test_reads_ahead_are_as_large_as_was_asked_for(mount: Mount, folder: Path) -> None:
    mounted = mount(folder, readahead_bytes=MIB)
    (mounted.path / "a").read_bytes()
    assert mounted.counts().largest_bytes == MIB
    assert mounted.counts().direct_requests == 0


def test_hundreds_of_direct_reads_are_in_flight_at_once(mount: Mount, folder: Path, content: bytes) -> None:
    mounted = mount(folder, stall_bytes=FILE_BYTES)
    with opened(mounted.path / "a", DIRECT) as descriptor, ThreadPoolExecutor(48) as pool:
        reads = [pool.submit(read, descriptor, FILE_BYTES, 0) for _ in range(48)]
        eventually(lambda: mounted.counts().stalled == 8 * 48, "all requests of all readers")
        assert mounted.counts().in_flight == 8 * 48
        mounted.release()
        assert all(one.result(PATIENCE_S) == content for one in reads)
    counts = mounted.counts()
    assert (counts.in_flight, counts.in_flight_most, counts.stalled) == (0, 8 * 48, 0)


def test_reads_in_flight_are_as_many_as_the_readers(mount: Mount, folder: Path) -> None:
    mounted = mount(folder, latency_ms=20)

    def reader(number: int) -> None:
        with opened(mounted.path / "a", DIRECT) as descriptor:
            for at in range(8):
                read(descriptor, MIB, at * MIB)

    at_once(6, reader)
    counts = mounted.counts()
    assert 4 <= counts.in_flight_most <= 6
    assert 0 < counts.in_flight_mean <= counts.in_flight_most
    assert counts.requests == 48


# ------------------------------------------------------------------------------- how slow


@BUFFERED_AND_DIRECT
def test_every_request_takes_its_latency(mount: Mount, folder: Path, flags: int) -> None:
    mounted = mount(folder, latency_ms=30)
    with opened(mounted.path / "a", flags) as descriptor:
        # Backwards, a page each: nothing is read ahead.
        places = range(7 * MIB, 2 * MIB, -MIB)
        elapsed = seconds_of(lambda: [read(descriptor, 4096, at) for at in places])
    assert 5 * 0.03 <= elapsed < 5 * 0.03 + LATE_S
    mounted.set(latency_ms=0)
    assert seconds_of(lambda: read_once(mounted.path / "a", MIB, 0)) < LATE_S


def test_latencies_of_many_readers_pass_at_the_same_time(mount: Mount, folder: Path) -> None:
    mounted = mount(folder, latency_ms=200)
    elapsed = seconds_of(lambda: at_once(32, lambda _: read_once(mounted.path / "a", MIB, 0)))
    assert 0.2 <= elapsed < 0.2 + LATE_S < 32 * 0.2


def test_metadata_has_a_latency_of_its_own(mount: Mount, folder: Path) -> None:
    mounted = mount(folder, metadata_ms=40)
    assert seconds_of((mounted.path / "a").stat) >= 0.04
    with opened(mounted.path / "a", DIRECT) as descriptor:
        mounted.set(metadata_ms=5000)
        assert seconds_of(lambda: read(descriptor, MIB, 0)) < LATE_S
        mounted.set(metadata_ms=0)


def test_all_descriptors_share_the_bandwidth_of_all(mount: Mount, folder: Path) -> None:
    mounted = mount(folder, bandwidth=64 * MIB)
    elapsed = seconds_of(lambda: at_once(4, lambda _: read_once(mounted.path / "a", FILE_BYTES, 0)))
    assert 0.5 <= elapsed < 0.5 * 1.1 + LATE_S / 2
    assert mounted.counts().bytes == 4 * FILE_BYTES


def test_a_bandwidth_is_kept_to_within_some_per_cent(mount: Mount, folder: Path) -> None:
    """Of the emulator's own clock: the best of some, since load only slows it down."""
    mounted = mount(folder, bandwidth=100e6, latency_ms=5)
    rates = []
    for _ in range(5):
        elapsed = seconds_of(lambda: at_once(2, lambda _: read_once(mounted.path / "a", FILE_BYTES, 0)))
        rates.append(2 * FILE_BYTES / elapsed)
    assert 90e6 <= max(rates) <= 100e6


def test_each_descriptor_has_its_own_bandwidth(mount: Mount, folder: Path) -> None:
    mounted = mount(folder, descriptor_bandwidth=16 * MIB)
    path = mounted.path / "a"
    alone = seconds_of(lambda: read_once(path, FILE_BYTES, 0))
    assert 0.5 <= alone < 0.5 * 1.1 + LATE_S / 2
    # One after the other they would take 4 seconds.
    assert 0.5 <= seconds_of(lambda: at_once(8, lambda _: read_once(path, FILE_BYTES, 0))) < 3.5
    with opened(path, DIRECT) as descriptor:
        shared = seconds_of(lambda: at_once(4, lambda _: read(descriptor, 2 * MIB, 0)))
    assert shared >= 0.5


# ------------------------------------------------------------------------------- orders, and the end


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("latency", 3, "latency=3: no option of the emulator"),
        ("latency_ms", -1, "latency_ms=-1: expected a number from 0 to inf"),
        ("bandwidth", "fast", "bandwidth=fast: expected a number from 0 to inf"),
        ("threads", 65, "threads=65: expected a number from 1 to 64"),
        ("file", "a b", "'file=a b': orders are lines of words, so it can have no white space"),
    ],
)
def test_what_is_no_option_is_refused(
    mount: Mount, folder: Path, option: str, value: float | str, message: str
) -> None:
    with pytest.raises(ValueError) as caught:
        mount(folder, **{option: value})
    assert str(caught.value) == message
    with pytest.raises(ValueError) as caught:
        mount(folder).set(**{option: value})
    assert str(caught.value) == message


def test_a_refused_order_changes_nothing_and_some_options_are_fixed(mount: Mount, folder: Path) -> None:
    mounted = mount(folder)
    with pytest.raises(ValueError) as caught:
        mounted.set(file_bytes=1, threads=2)
    assert str(caught.value) == "threads=2: is fixed once mounted"
    assert (mounted.path / "a").stat().st_size == FILE_BYTES


def test_a_folder_that_is_not_there_is_named(mountable: None, tmp_path: Path) -> None:
    with pytest.raises(CannotMountError) as caught:
        Emulator(tmp_path / "none")
    assert str(caught.value) == f"{tmp_path}/none: No such file or directory"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts(mount: Mount, folder: Path, number: int) -> None:
    mounted = mount(folder)
    os.kill(mounted.pid, number)
    eventually(lambda: not is_mounted(mounted.path), "unmounted")
    with pytest.raises(RuntimeError, match="^the emulator ended$"):
        mounted.counts()


def test_it_ends_with_its_parent_even_while_a_read_stalls(mountable: None, folder: Path) -> None:
    script = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
import emulator
emulator.program = lambda: {str(program())!r}
mounted = emulator.Emulator({str(folder)!r}, stall_bytes=1)
print(mounted.path, mounted.pid, flush=True)
time.sleep({PATIENCE_S})
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        path, pid = parent.stdout.readline().split()
        assert is_mounted(path)
        with opened(Path(path) / "a", DIRECT) as descriptor, ThreadPoolExecutor(1) as pool:
            stalled = pool.submit(read, descriptor, MIB, 0)
            time.sleep(0.1)
            parent.kill()
            assert isinstance(stalled.exception(PATIENCE_S), OSError)
    eventually(lambda: not is_mounted(path), "unmounted")
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "the emulator's process ended")
    # What its parent would have removed.
    os.rmdir(path)


def test_closing_twice_is_closing_once(mount: Mount, folder: Path) -> None:
    mounted = mount(folder)
    mounted.close()
    mounted.close()
    assert not mounted.path.exists()
