"""What is promised of memory, by cuMemGetInfo: on the device while loading and afterwards, and pinned on the host."""

from __future__ import annotations

import gc
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from gpu_support import GIB, MIB, NOISE_BYTES, Peak, check, live_exports, numbered, settled
from instanttensor import safe_open
from samples import run, stored, write

# A slab at most, as in the engine's SlabBudget.
SLAB_BYTES = 128 * MIB
PINNED_LIMIT_BYTES = 128 * MIB


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """128 tensors of 1 MiB."""
    return numbered(tmp_path_factory.mktemp("memory") / "model.safetensors", [MIB // 4] * 128)


def scratch(needed_bytes: int) -> Path:
    """A new folder in memory; skips where there is no room."""
    root = Path("/dev/shm")
    free = shutil.disk_usage(root).free if root.is_dir() else 0
    if free < needed_bytes * 1.2:
        pytest.skip(f"{root} has {free / 1e9:.1f} GB free, and {needed_bytes * 1.2 / 1e9:.1f} GB are needed")
    return Path(tempfile.mkdtemp(prefix="instanttensor-test-", dir=root))


def in_memory(shapes: list[int]) -> Iterator[Path]:
    folder = scratch(4 * sum(shapes))
    try:
        yield numbered(folder / "model.safetensors", shapes)
    finally:
        shutil.rmtree(folder)


# ------------------------------------------------------------------------------- afterwards it is back


def all_of(path: Path, device: torch.device, copy: bool) -> None:
    with safe_open(path, "pt", device=device, copy=copy, buffer_size=16 * MIB) as f:
        for _ in f.tensors():
            pass


def kept_and_dropped(path: Path, device: torch.device, copy: bool) -> None:
    with safe_open(path, "pt", device=device, copy=copy, buffer_size=16 * MIB) as f:
        tensors = dict(f.tensors())
    tensors.clear()


def dropped_on_another_thread(path: Path, device: torch.device, copy: bool) -> None:
    with safe_open(path, "pt", device=device, copy=copy, buffer_size=16 * MIB) as f:
        tensors = dict(f.tensors())
    thread = threading.Thread(target=tensors.clear)
    thread.start()
    thread.join()


def broken_out_of(path: Path, device: torch.device, copy: bool) -> None:
    with safe_open(path, "pt", device=device, copy=copy, buffer_size=16 * MIB) as f:
        for name, _ in f.tensors():
            if name == "t40":
                break


def closed_in_the_middle(path: Path, device: torch.device, copy: bool) -> None:
    f = safe_open(path, "pt", device=device, copy=copy, buffer_size=16 * MIB)
    loading = f.tensors()
    for _ in range(30):
        next(loading)
    f.close()


def an_exception(path: Path, device: torch.device, copy: bool) -> None:
    with pytest.raises(KeyError, match="enough"):
        with safe_open(path, "pt", device=device, copy=copy, buffer_size=16 * MIB) as f:
            for name, _ in f.tensors():
                if name == "t40":
                    raise KeyError("enough")


def never_closed(path: Path, device: torch.device, copy: bool) -> None:
    next(safe_open(path, "pt", device=device, copy=copy, buffer_size=16 * MIB).tensors())


def by_name(path: Path, device: torch.device, copy: bool) -> None:
    with safe_open(path, "pt", device=device, copy=copy) as f:
        f.get_tensor("t5"), f.get_tensors(["t7", "t100"]), f.get_slice("t9")[1000:2000]


Use = Callable[[Path, torch.device, bool], None]
USES: list[Use] = [
    all_of, kept_and_dropped, dropped_on_another_thread, broken_out_of, closed_in_the_middle, an_exception,
    never_closed, by_name,
]  # fmt: skip


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
@pytest.mark.parametrize("copy", [True, False])
def test_fifty_opens_leave_nothing(path: Path, cuda_device: torch.device, use: Use, copy: bool) -> None:
    for _ in range(3):
        use(path, cuda_device, copy)
    before = settled(cuda_device)
    reserved = torch.cuda.memory_allocated(cuda_device)
    for _ in range(50):
        use(path, cuda_device, copy)
    after = settled(cuda_device, before + NOISE_BYTES)
    assert after - before <= NOISE_BYTES
    assert torch.cuda.memory_allocated(cuda_device) == reserved
    assert live_exports() == 0


def test_views_hold_their_slabs_until_the_last_is_gone(path: Path, cuda_device: torch.device) -> None:
    all_of(path, cuda_device, copy=False)
    before = settled(cuda_device)
    with safe_open(path, "pt", device=cuda_device, copy=False, buffer_size=16 * MIB) as f:
        tensors = dict(f.tensors())
    held = settled(cuda_device) - before
    assert 128 * MIB <= held <= 128 * MIB + NOISE_BYTES
    # Four to a slab: one of each keeps all of them.
    for name in list(tensors):
        if int(name[1:]) % 4:
            del tensors[name]
    assert settled(cuda_device) - before >= 128 * MIB
    tensors.clear()
    assert settled(cuda_device, before + NOISE_BYTES) - before <= NOISE_BYTES


# ------------------------------------------------------------------------------------- while it loads


def test_a_tiny_file_takes_next_to_nothing(tmp_path: Path, cuda_device: torch.device) -> None:
    # In a process of its own: context and Java are up, and nothing has been loaded.
    tiny = write(tmp_path / "tiny.safetensors", {"t": stored("BF16", [8])})
    assert tiny.stat().st_size < 200
    script = """
        import sys, torch
        from instanttensor import _bridge, safe_open
        device = torch.device(sys.argv[2])
        torch.zeros(1, device=device)
        torch.cuda.synchronize()
        _bridge.engine()
        before = torch.cuda.mem_get_info(device)[0]
        taken = []
        for copy in (False, True):
            with safe_open(sys.argv[1], "pt", device=device, copy=copy) as f:
                for name, tensor in f.tensors():
                    taken.append(before - torch.cuda.mem_get_info(device)[0])
                taken.append(before - torch.cuda.mem_get_info(device)[0])
        print(max(taken))
    """
    taken = int(run(script, str(tiny), str(cuda_device)))
    assert taken <= 8 * MIB


@pytest.fixture(scope="module", params=["tensors of 12 MiB", "one of 600 MB"])
def three_gigabytes(request: pytest.FixtureRequest) -> Iterator[tuple[Path, int]]:
    """A checkpoint in memory, and its largest tensor's bytes."""
    shapes = [3 * MIB] * 200 + ([150_000_000] if request.param == "one of 600 MB" else [7]) + [1000, 3 * MIB] * 40
    for path in in_memory(shapes):
        yield path, 4 * max(shapes)


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("keep", [False, True], ids=["dropped", "kept"])
def test_the_default_budget(
    three_gigabytes: tuple[Path, int], cuda_device: torch.device, copy: bool, keep: bool
) -> None:
    path, largest_bytes = three_gigabytes
    cap = max(3 * largest_bytes, GIB)
    if torch.cuda.mem_get_info(cuda_device)[0] < 2 * (cap + path.stat().st_size):
        pytest.skip("this GPU has less memory free than the default's half of it would take")
    kept = []
    with Peak(cuda_device) as peak, safe_open(path, "pt", device=cuda_device, copy=copy) as f:
        for name, tensor in f.tensors():
            if keep:
                kept.append((name, tensor))
            del tensor
        peak.look()
        stats = f.stats()
    assert stats["buffer_bytes"] == cap
    assert stats["peak_buffer_bytes"] <= cap
    assert stats["pinned_bytes"] <= PINNED_LIMIT_BYTES
    # Beside the cap: slabs that views refer to, one that has just been given back, and rounding.
    out = path.stat().st_size if keep and not copy else 2 * max(largest_bytes, SLAB_BYTES)
    assert peak.bytes <= cap + out + SLAB_BYTES
    for name, tensor in kept:
        check(name, tensor)


@pytest.mark.parametrize("copy", [True, False])
def test_buffer_size_is_a_cap(path: Path, cuda_device: torch.device, copy: bool) -> None:
    all_of(path, cuda_device, copy)
    with Peak(cuda_device) as peak, safe_open(
        path, "pt", device=cuda_device, copy=copy, buffer_size=16 * MIB
    ) as f:
        for _, tensor in f.tensors():
            torch.cuda.synchronize()
            del tensor
        stats = f.stats()
    assert stats["peak_buffer_bytes"] <= 16 * MIB
    # Three slabs of 4 MiB change hands.
    assert peak.bytes <= 16 * MIB + 3 * 4 * MIB + NOISE_BYTES


def test_pinned_memory_is_shared_by_loads_and_bounded(path: Path, cuda_device: torch.device) -> None:
    files = [safe_open(path, "pt", device=cuda_device, concurrency=32, chunk_size=size << 20) for size in (1, 4, 8)]
    for _ in range(2):
        for f in files:
            for _ in f.tensors():
                pass
            assert 0 < f.stats()["pinned_bytes"] <= PINNED_LIMIT_BYTES
    loads = [f.tensors() for f in files]
    for _ in zip(*loads):
        pass
    for load, f in zip(loads, files):
        load.close()
        assert f.stats()["pinned_bytes"] <= PINNED_LIMIT_BYTES
        f.close()


# --------------------------------------------------------------------------------------- out of memory


@pytest.fixture
def little_room(path: Path, cuda_device: torch.device) -> Iterator[int]:
    """A card with some 400 MiB left; the bytes that are."""
    all_of(path, cuda_device, copy=True)
    settled(cuda_device)
    hogs = []
    try:
        for leave in (400, 500, 600):
            free = torch.cuda.mem_get_info(cuda_device)[0]
            try:
                hogs.append(torch.empty(max(0, free - leave * MIB), dtype=torch.uint8, device=cuda_device))
                break
            except torch.OutOfMemoryError:
                continue
        free = torch.cuda.mem_get_info(cuda_device)[0]
        if free > 700 * MIB:
            pytest.skip(f"the card cannot be filled: {free / MIB:,.0f} MiB are left")
        yield free
    finally:
        hogs.clear()
        gc.collect()
        torch.cuda.empty_cache()


@pytest.fixture(scope="module", params=["many tensors", "one tensor"])
def too_large(request: pytest.FixtureRequest) -> Iterator[Path]:
    """1 GiB: more than `little_room` leaves."""
    yield from in_memory([2 * MIB] * 128 if request.param == "many tensors" else [GIB // 4])


def test_too_little_memory_is_an_error_that_says_how_much_and_not_the_end(
    too_large: Path, path: Path, cuda_device: torch.device, little_room: int
) -> None:
    before = settled(cuda_device)
    for _ in range(3):
        with safe_open(too_large, "pt", device=cuda_device, copy=False, buffer_size=4 * GIB) as f:
            with pytest.raises(torch.OutOfMemoryError) as told:
                dict(f.tensors())
        pattern = rf"not enough memory on {cuda_device}: needed ([\d,]+) bytes, ([\d,]+) of ([\d,]+) bytes were free"
        said = re.fullmatch(pattern, str(told.value))
        assert said is not None, str(told.value)
        needed, free, size = (int(number.replace(",", "")) for number in said.groups())
        assert 128 * MIB <= needed <= GIB + 8
        assert free < needed
        assert size == torch.cuda.mem_get_info(cuda_device)[1]
        told = None  # type: ignore[assignment]  # its traceback keeps the tensors
        gc.collect()
    assert settled(cuda_device, before + NOISE_BYTES) - before <= NOISE_BYTES
    # With less at a time it goes, on this very card.
    with safe_open(path, "pt", device=cuda_device, copy=False, buffer_size=32 * MIB) as f:
        for name, tensor in f.tensors():
            check(name, tensor)


def test_the_default_takes_no_more_than_its_part_of_what_is_free(
    path: Path, cuda_device: torch.device, little_room: int
) -> None:
    with safe_open(path, "pt", device=cuda_device, copy=False, max_free_mem_usage=0.1) as f:
        for name, tensor in f.tensors():
            check(name, tensor)
        del tensor
        assert f.stats()["buffer_bytes"] <= (little_room + NOISE_BYTES) // 10


def test_loading_works_again_after_memory_ran_out(too_large: Path, cuda_device: torch.device) -> None:
    settled(cuda_device)
    free = torch.cuda.mem_get_info(cuda_device)[0]
    if free < 3 * GIB:
        pytest.skip(f"this GPU has {free / GIB:.1f} GiB free, and 3 are needed")
    hog = torch.empty(free - 500 * MIB, dtype=torch.uint8, device=cuda_device)
    with safe_open(too_large, "pt", device=cuda_device, copy=False, buffer_size=4 * GIB) as f:
        with pytest.raises(torch.OutOfMemoryError, match="needed"):
            dict(f.tensors())
        del hog
        gc.collect()
        torch.cuda.empty_cache()
        for name, tensor in f.tensors():
            check(name, tensor)
