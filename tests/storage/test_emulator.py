"""The emulator does what each of its options says, and goes away cleanly.

Times have strict bounds where nothing but the emulator can be early, and generous ones where a busy machine is late.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from emulator import PATIENCE_S, CannotMountError, Emulator, program

MIB = 1 << 20
FILE_BYTES = 8 * MIB
# What a busy machine may add to a time.
LATE_S = 3.0

DIRECT = os.O_DIRECT
BUFFERED_AND_DIRECT = pytest.mark.parametrize("flags", [0, DIRECT], ids=["buffered", "direct"])
Mount = Callable[..., Emulator]

_libc = ctypes.CDLL(None, use_errno=True)
# int mincore(void *addr, size_t length, unsigned char *vec)
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]


@pytest.fixture(scope="module")
def content() -> bytes:
    return os.urandom(FILE_BYTES)


@pytest.fixture(scope="module")
def folder(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of the same bytes."""
    folder = tmp_path_factory.mktemp("folder")
    for name in ("a", "b"):
        (folder / name).write_bytes(content)
    return folder


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
