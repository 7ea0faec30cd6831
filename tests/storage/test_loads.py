"""Loads from slow storage: how many reads are in flight, by how many descriptors, past the page cache or through it."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from emulator import Counts, Emulator
from instanttensor import _bridge, safe_open
from safetensors.numpy import load_file, save_file
from samples import READING_BACKENDS, run

MIB = 1 << 20
TENSORS, TENSOR_BYTES = 48, 2 * MIB
FILE_BYTES = TENSORS * TENSOR_BYTES
FILES = 4

Mount = Callable[..., Emulator]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four files of 96 MiB, in memory: the emulator is not to wait for a disk."""
    shared = Path("/dev/shm")
    folder = tmp_path_factory.mktemp("model")
    if os.access(shared, os.W_OK):
        in_memory = shared / f"instanttensor-{os.getpid()}"
        in_memory.mkdir()
        folder.rmdir()
        folder.symlink_to(in_memory)
    generator = np.random.default_rng(7)
    for file in range(FILES):
        contents = generator.bytes(FILE_BYTES)
        save_file(
            {
                f"{file}.{n}": np.frombuffer(contents[n * TENSOR_BYTES :][:TENSOR_BYTES], np.uint8)
                for n in range(TENSORS)
            },
            folder / f"{file}.safetensors",
        )
    return folder


@pytest.fixture(scope="module", autouse=True)
def _no_files_left(folder: Path) -> Any:
    yield
    for file in folder.glob("*.safetensors"):
        file.unlink()
    if folder.is_symlink():
        folder.resolve().rmdir()


def load(path: Path, folder: Path, **options: Any) -> dict[str, Any]:
    """Loads everything, compares it with what was written, and returns stats()."""
    with safe_open(path, "np", **options) as f:
        loaded = dict(f.tensors())
        stats: dict[str, Any] = f.stats()
    files = sorted(folder.glob("*.safetensors")) if path.is_dir() else [folder / path.name]
    wanted = {name: array for file in files for name, array in load_file(file).items()}
    assert loaded.keys() == wanted.keys()
    assert all(np.array_equal(array, wanted[name]) for name, array in loaded.items())
    return stats


def counted(mounted: Emulator, folder: Path, **options: Any) -> tuple[dict[str, Any], Counts]:
    mounted.reset()
    stats = load(mounted.path, folder, **options)
    return stats, mounted.counts()


def test_more_reads_are_in_flight_where_each_takes_long(mount: Mount, folder: Path) -> None:
    stats, counts = counted(mount(folder, latency_ms=60), folder)
    assert stats["reads_in_flight"] > 16
    assert counts.in_flight_most > 32


def test_no_more_are_in_flight_where_all_share_a_narrow_wire(mount: Mount, folder: Path) -> None:
    """Once it knows: of 384 MiB, the first 320 MiB are left to it. A read of 2 MiB is two requests."""
    mounted = mount(folder, bandwidth=200e6)
    with safe_open(mounted.path, "np") as f:
        for number, _ in enumerate(f.tensors()):
            if number == 160:
                mounted.reset()
    assert mounted.counts().in_flight_most <= 2 * 8


def test_a_number_set_by_hand_is_kept(mount: Mount, folder: Path) -> None:
    stats, counts = counted(mount(folder, latency_ms=60), folder, concurrency=4, chunk_size=MIB)
    assert stats["reads_in_flight"] == 4
    assert counts.in_flight_most <= 4 + 2, "headers are read ahead"


def test_io_depth_alone_sets_the_number_too(mount: Mount, folder: Path) -> None:
    stats, counts = counted(mount(folder, latency_ms=60), folder, io_depth=32)
    assert stats["reads_in_flight"] == 32
    assert counts.in_flight_most > 32


def test_reads_that_were_never_under_way_together_are_not_counted(mount: Mount, folder: Path) -> None:
    """In 98 MiB there is room for a read of 64 MiB and the file's other one, however many threads there are."""
    stats, _ = counted(mount(folder, latency_ms=60), folder, concurrency=8, chunk_size=64 * MIB)
    assert 1 <= stats["reads_in_flight"] <= 2


def test_the_room_for_tensors_does_not_set_the_depth(mount: Mount, folder: Path) -> None:
    stats, _ = counted(mount(folder, latency_ms=60), folder, buffer_size=64 * MIB)
    assert stats["reads_in_flight"] > 8


def test_each_reader_has_a_descriptor_of_its_own(mount: Mount, folder: Path) -> None:
    """Of 100 MB/s each, one alone would take 4 s."""
    mounted = mount(folder, descriptor_bandwidth=100e6)
    start = time.perf_counter()
    _, counts = counted(mounted, folder)
    assert counts.opens >= 8
    assert time.perf_counter() - start < 3


def test_half_a_file_in_the_page_cache_is_read_from_there_and_the_rest_past_it(mount: Mount, folder: Path) -> None:
    mounted = mount(folder)
    name = "0.safetensors"
    with open(mounted.path / name, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for _ in range(FILE_BYTES // 2 // MIB):
            file.read(MIB)
    mounted.reset()
    stats = load(mounted.path / name, folder)
    counts = mounted.counts()
    assert stats["files"][0]["mode"] == "mixed"
    assert FILE_BYTES * 0.45 < counts.bytes < FILE_BYTES * 0.6
    assert counts.direct_requests > 0.8 * counts.requests


def test_a_cached_file_is_read_through_the_page_cache(mount: Mount, folder: Path) -> None:
    mounted = mount(folder)
    (mounted.path / "1.safetensors").read_bytes()
    mounted.reset()
    stats = load(mounted.path / "1.safetensors", folder)
    file = stats["files"][0]
    assert (file["mode"], file["reason"]) == ("mixed", "100 % of it in the page cache at opening (cachestat)")
    assert mounted.counts().bytes < MIB


def test_a_cached_file_that_is_evicted_before_the_load_is_read_past_the_page_cache(mount: Mount, folder: Path) -> None:
    mounted = mount(folder)
    path = mounted.path / "1.safetensors"
    path.read_bytes()
    with safe_open(path, "np") as f:
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        mounted.reset()
        loaded = dict(f.tensors())
        counts = mounted.counts()
    wanted = load_file(folder / "1.safetensors")
    assert loaded.keys() == wanted.keys()
    assert all(np.array_equal(array, wanted[name]) for name, array in loaded.items())
    assert counts.bytes > 0.99 * FILE_BYTES
    assert counts.direct_requests > 0.95 * counts.requests


def test_of_a_file_that_is_cached_all_but_its_end_only_the_end_is_read(mount: Mount, folder: Path) -> None:
    mounted = mount(folder)
    path = mounted.path / "1.safetensors"
    with open(path, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        file.read(FILE_BYTES - MIB)
    mounted.reset()
    assert load(path, folder)["files"][0]["mode"] == "mixed"
    counts = mounted.counts()
    assert 0.9 * MIB < counts.bytes < 1.2 * MIB
    assert counts.direct_requests == counts.requests


def test_direct_reads_that_stop_inside_of_a_unit_are_completed_through_the_page_cache(
    mount: Mount, folder: Path
) -> None:
    mounted = mount(folder, short_every=1, short_bytes=1000)
    stats = load(mounted.path / "1.safetensors", folder, backend="AIO")
    assert stats["files"][0]["mode"] == "direct"
    assert mounted.counts().shorts > 0


def test_a_cold_file_is_read_past_the_page_cache_which_stays_as_it_was(mount: Mount, folder: Path) -> None:
    mounted = mount(folder)
    for _ in range(2):
        stats, counts = counted(mounted, folder)
        assert {file["mode"] for file in stats["files"]} == {"direct"}
        assert counts.bytes > 0.99 * FILES * FILE_BYTES


def test_where_direct_reads_are_refused_it_reads_through_the_page_cache_and_says_why(
    mount: Mount, folder: Path
) -> None:
    stats, counts = counted(mount(folder, refuse_direct=1, latency_ms=5), folder)
    for file in stats["files"]:
        assert file["mode"] == "buffered"
        assert file["reason"].startswith("direct I/O refused: ")
        assert "Invalid argument" in file["reason"]
    assert counts.direct_requests <= FILES, "it was tried"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was told of reads that took more than a second."""
    monkeypatch.setattr(_bridge, "SLOW_READ_S", 1.0)
    return lambda: [record.getMessage() for record in caplog.records if record.name == "instanttensor"]


def told_range(told: list[str], path: Path) -> tuple[int, int]:
    """The one read that was told of: offset and bytes."""
    assert len(told) == 1, told
    pattern = rf"{path}: a read of ([\d,]+) bytes at ([\d,]+) has taken [1-4] s, and goes on"
    found = re.fullmatch(pattern, told[0])
    assert found is not None, told[0]
    (bytes_, offset) = (int(number.replace(",", "")) for number in found.groups())
    return offset, bytes_


def open_while_it_stalls(mounted: Emulator, path: Path) -> dict[str, Any]:
    """Opens what stalls for 3.5 s, and says how it is read."""
    released = threading.Timer(3.5, mounted.release)
    released.start()
    try:
        with safe_open(path, "np") as f:
            file: dict[str, Any] = f.stats()["files"][0]
            return file
    finally:
        released.join()


def test_a_read_that_takes_long_is_told_of_once_with_file_and_offset(
    mount: Mount, folder: Path, told: Callable[[], list[str]]
) -> None:
    at = 64 * MIB
    mounted = mount(folder, stall_from=at, stall_bytes=1, file="2.safetensors")
    released = threading.Timer(3.5, mounted.release)
    with safe_open(mounted.path / "2.safetensors", "np") as f:
        released.start()
        assert len(list(f.tensors())) == TENSORS
    offset, bytes_ = told_range(told(), mounted.path / "2.safetensors")
    assert offset <= at < offset + bytes_


def test_a_caller_who_was_busy_is_told_at_once(mount: Mount, folder: Path, told: Callable[[], list[str]]) -> None:
    at = 33 * MIB
    mounted = mount(folder, stall_from=at, stall_bytes=1)
    with safe_open(mounted.path / "2.safetensors", "np", buffer_size=32 * MIB) as f:
        tensors = iter(f.tensors())
        taken = 0
        while mounted.counts().stalled == 0:
            next(tensors)
            taken += 1
            time.sleep(0.02)
        released = threading.Timer(2.2, mounted.release)
        released.start()
        time.sleep(1.8)
        # What is left of the stall is less than makes a read slow.
        assert taken + len(list(tensors)) == TENSORS
    offset, bytes_ = told_range(told(), mounted.path / "2.safetensors")
    assert offset <= at < offset + bytes_


def test_who_waits_looks_once_a_second_however_short_the_waits_are(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    looks: list[float] = []

    class Looked:
        def slowReads(self, _millis: int) -> None:  # noqa: N802
            looks.append(now)

    monkeypatch.setattr(_bridge, "engine", Looked)
    monkeypatch.setattr(_bridge, "time", SimpleNamespace(monotonic=lambda: now))
    patience = _bridge.Patience()
    for _ in range(100):
        now += 1 / 32
        patience.look()
    # Nobody looks while the caller is busy, and the first wait behind that does.
    now += 40
    patience.look()
    patience.look()
    assert looks == [1.0, 2.0, 3.0, 43.125]


def test_a_header_that_takes_long_is_told_of(mount: Mount, folder: Path, told: Callable[[], list[str]]) -> None:
    mounted = mount(folder, stall_bytes=1)
    open_while_it_stalls(mounted, mounted.path / "3.safetensors")
    assert told_range(told(), mounted.path / "3.safetensors") == (0, 1 << 16)


def test_an_unusual_header_that_takes_long_is_told_of(
    mount: Mount, tmp_path: Path, told: Callable[[], list[str]]
) -> None:
    """An escape in a name has all of it read once more."""
    header = json.dumps({f'{n:06}"': {"dtype": "U8", "shape": [1], "data_offsets": [n, n + 1]} for n in range(20_000)})
    (tmp_path / "unusual.safetensors").write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(20_000))
    mounted = mount(tmp_path, stall_from=MIB, stall_bytes=1)
    open_while_it_stalls(mounted, mounted.path / "unusual.safetensors")
    assert told_range(told(), mounted.path / "unusual.safetensors") == (8, len(header))


def test_an_index_that_takes_long_is_told_of(mount: Mount, tmp_path: Path, told: Callable[[], list[str]]) -> None:
    save_file({"a": np.arange(4)}, tmp_path / "one.safetensors")
    name = "model.safetensors.index.json"
    (tmp_path / name).write_text(json.dumps({"weight_map": {"a": "one.safetensors"}}))
    mounted = mount(tmp_path, stall_bytes=1, file=name)
    open_while_it_stalls(mounted, mounted.path)
    assert told_range(told(), mounted.path / name) == (0, 8_000)


def test_a_try_of_direct_reads_that_takes_long_is_told_of(
    mount: Mount, folder: Path, told: Callable[[], list[str]]
) -> None:
    mounted = mount(folder)
    with safe_open(mounted.path / "3.safetensors", "np", load_now=False):
        pass
    # The header comes from the page cache now, and what is tried goes past it.
    mounted.set(stall_bytes=1)
    assert open_while_it_stalls(mounted, mounted.path / "3.safetensors")["mode"] == "direct"
    assert told_range(told(), mounted.path / "3.safetensors") == (0, 4096)


def test_files_are_opened_at_once_where_each_takes_long(mount: Mount, tmp_path: Path) -> None:
    for n in range(48):
        save_file({str(n): np.arange(4)}, tmp_path / f"{n:02}.safetensors")
    mounted = mount(tmp_path, metadata_ms=20, latency_ms=20)
    start = time.perf_counter()
    with safe_open(mounted.path, "np") as f:
        assert len(f.keys()) == 48
    # One after the other it would be three times 20 ms for each.
    assert time.perf_counter() - start < 48 * 0.04


def test_of_files_that_cannot_be_opened_the_first_is_named(mount: Mount, tmp_path: Path) -> None:
    for n in range(12):
        save_file({str(n): np.arange(4)}, tmp_path / f"{n:02}.safetensors")
    mounted = mount(tmp_path, metadata_ms=20)
    paths = [mounted.path / f"{n:02}.safetensors" for n in range(12)]
    paths[5] = paths[5].with_name("no such file")
    paths[8] = paths[8].with_name("nor this")
    with pytest.raises(FileNotFoundError) as caught:
        safe_open(paths, "np")
    assert caught.value.filename == str(paths[5])


NEAR_THE_LIMIT = """
import os, resource, sys
from instanttensor import safe_open

path, backend, free = sys.argv[1], sys.argv[2], int(sys.argv[3])
with safe_open(path, "np", backend=backend, concurrency=24, load_now=False) as f:
    f.get_tensor(f.keys()[0])
    used = max(int(name) for name in os.listdir("/proc/self/fd"))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1 + free, hard))
    names = []
    for name, _ in f.tensors():
        names.append(name)
        os.close(os.open("/dev/null", os.O_RDONLY))
print(len(names))
"""


@pytest.mark.parametrize("free", [4, 70])
@pytest.mark.parametrize("backend", READING_BACKENDS)
def test_near_the_limit_of_open_files_a_load_leaves_the_last_to_its_caller(
    mount: Mount, folder: Path, backend: str, free: int
) -> None:
    mounted = mount(folder, latency_ms=5)
    said = run(NEAR_THE_LIMIT, str(mounted.path / "1.safetensors"), backend, str(free))
    assert said == str(TENSORS)
