"""The same types, shapes and bytes as safetensors, on a GPU, under any options."""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from gpu_support import KIB, MIB
from instanttensor import safe_open
from samples import BITS, F6, Stored, bytes_of, size_of, some_bytes, write

DTYPES = [dtype for dtype in BITS if dtype not in F6]


def noise(dtype: str, shape: list[int], seed: int) -> Stored:
    """Any bits there are, NaNs of all kinds among them; for a BOOL 0 and 1."""
    size = size_of(dtype, shape)
    return dtype, shape, some_bytes(size, seed) if dtype == "BOOL" else random.Random(seed).randbytes(size)


def same(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return (ours.dtype, ours.shape, ours.device) == (theirs.dtype, theirs.shape, theirs.device) and bytes_of(
        ours
    ) == bytes_of(theirs)


def reference(paths: Iterable[Path], device: torch.device) -> dict[str, torch.Tensor]:
    """All tensors of all files, by safetensors."""
    found = {}
    for path in paths:
        with safetensors.safe_open(path, "pt", device=str(device)) as f:
            found |= {name: f.get_tensor(name) for name in f.keys()}
    return found


def check(loaded: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert sorted(loaded) == sorted(expected)
    assert [name for name, tensor in loaded.items() if not same(tensor, expected[name])] == []


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """All types in several shapes: scalars, empty ones, odd sizes, so that nothing is aligned."""
    tensors: dict[str, Stored] = {}
    for seed, dtype in enumerate(DTYPES):
        pair = [] if BITS[dtype] >= 8 else [2]
        for shape in ([], [1], [0], [3, 0], [5], [3, 7], [11, 13, 3], [4099]):
            whole = [*shape, *pair]
            tensors[f"{dtype}.{whole}"] = noise(dtype, whole, seed)
        tensors[f"{dtype}.odd"] = noise("U8", [2 * seed + 1], seed)
    return write(tmp_path / "mixed.safetensors", tensors, {"format": "pt"}, padding=5)


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("buffer_size", [None, 1, 10_000, MIB])
@pytest.mark.parametrize("chunk_size", [None, 4 * KIB])
def test_all_types_and_shapes(
    mixed: Path, cuda_device: torch.device, copy: bool, buffer_size: int | None, chunk_size: int | None
) -> None:
    options: dict[str, Any] = {"copy": copy, "buffer_size": buffer_size, "chunk_size": chunk_size}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # tensors larger than such a buffer_size
        with safe_open(mixed, "pt", device=cuda_device, **options) as f:
            expected = reference([mixed], cuda_device)
            for _ in range(2):
                check(dict(f.tensors()), expected)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("copy", [True, False])
def test_many_neighbours_of_one_type(
    tmp_path: Path, cuda_device: torch.device, copy: bool, deterministic: bool
) -> None:
    """More of each than are made at once, some larger than one of the kernel's blocks; a few that are too large for it,
    and some that are too few."""
    tensors: dict[str, Stored] = {}
    for seed, dtype in enumerate(DTYPES):
        pair = [] if BITS[dtype] >= 8 else [2]
        for number in range(300):
            tensors[f"{dtype}.{number:03}"] = noise(dtype, [3, 5, *pair], 1000 * seed + number)
        for number in range(70):
            tensors[f"{dtype}.middle.{number:02}"] = noise(dtype, [7, 331, *pair], seed + number)
        for number in range(5):
            tensors[f"{dtype}.large.{number}"] = noise(dtype, [4, 33_001, *pair], seed + number)
        for number in range(3):
            tensors[f"{dtype}.scalar.{number}"] = noise(dtype, pair, seed + number)
    path = write(tmp_path / "neighbours.safetensors", tensors, {"format": "pt"}, padding=3)
    expected = reference([path], cuda_device)
    torch.use_deterministic_algorithms(deterministic)
    try:
        with safe_open(path, "pt", device=cuda_device, copy=copy) as f:
            loaded = dict(f.tensors())
    finally:
        torch.use_deterministic_algorithms(False)
    check(loaded, expected)


@pytest.mark.parametrize("padding", range(1, 17, 3))
@pytest.mark.parametrize("copy", [True, False])
def test_data_at_any_offset_in_the_file(
    tmp_path: Path, cuda_device: torch.device, padding: int, copy: bool
) -> None:
    tensors = {f"t{n}": noise(("F32", "U8", "BF16", "I64")[n % 4], [n + 1, 37], n) for n in range(60)}
    path = write(tmp_path / "a.safetensors", tensors, padding=padding)
    with safe_open(path, "pt", device=cuda_device, copy=copy, buffer_size=20_000) as f:
        check(dict(f.tensors()), reference([path], cuda_device))


@pytest.mark.parametrize("copy", [True, False])
def test_many_files(tmp_path: Path, cuda_device: torch.device, copy: bool) -> None:
    paths = []
    for file in range(40):
        tensors = {f"{file}.{n}": noise("BF16", [n + file, 129], 100 * file + n) for n in range(25)}
        paths.append(write(tmp_path / f"{file:02}.safetensors", tensors, padding=file))
    with safe_open(tmp_path, "pt", device=cuda_device, copy=copy, buffer_size=MIB, concurrency=5) as f:
        loaded = dict(f.tensors())
        assert f.keys() == list(loaded)
    check(loaded, reference(paths, cuda_device))


@pytest.mark.parametrize("copy", [True, False])
def test_tensors_larger_than_the_buffer_are_named_in_one_warning(
    tmp_path: Path, cuda_device: torch.device, copy: bool
) -> None:
    sizes = {"a": 3 * MIB, "b": 100, "c": 5 * MIB + 1, "d": 300_000, "e": MIB, "f": 2 * MIB}
    path = write(tmp_path / "a.safetensors", {name: noise("U8", [size], size) for name, size in sizes.items()})
    with safe_open(path, "pt", device=cuda_device, copy=copy, buffer_size=MIB) as f:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            loaded = dict(f.tensors())
        stats = f.stats()
    assert [(each.category, str(each.message)) for each in told] == [
        (
            RuntimeWarning,
            "larger than buffer_size (1,048,576 bytes), so each gets storage of its own: "
            "'a' (3,145,728 bytes), 'c' (5,242,881 bytes), 'f' (2,097,152 bytes)",
        )
    ]
    check(loaded, reference([path], cuda_device))
    # Larger than the cap is only what is handed out as it is.
    assert stats["buffer_bytes"] == MIB
    assert stats["peak_buffer_bytes"] <= 5 * MIB + 8
    assert loaded["c"].untyped_storage().nbytes() < 5 * MIB + 16


def test_a_single_tensor(mixed: Path, cuda_device: torch.device) -> None:
    with safe_open(mixed, "pt", device=cuda_device) as f:
        for name, tensor in reference([mixed], cuda_device).items():
            loaded = f.get_tensor(name)
            assert same(loaded, tensor), name
            assert loaded.untyped_storage().nbytes() == loaded.nbytes, name


def test_several_tensors_in_the_order_asked_for(mixed: Path, cuda_device: torch.device) -> None:
    with safe_open(mixed, "pt", device=cuda_device) as f:
        names = f.keys()[::-3]
        expected = reference([mixed], cuda_device)
        loaded = f.get_tensors(names)
        assert list(loaded) == names
        check(loaded, {name: expected[name] for name in names})
        check(f.get_tensors(), expected)


INDEXES: list[Any] = [
    slice(None), slice(2, 9), slice(-4, None), slice(1, None, 3), slice(3, 3), 0, -1, ...,
    (slice(2, 9), slice(1, 4)), (slice(None), 2), (..., slice(0, 6, 2)), (3, slice(1, 3), -1), (1, 2, 3),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["U8", "BF16", "F32", "C64", "F8_E4M3"])
def test_slices(tmp_path: Path, cuda_device: torch.device, dtype: str) -> None:
    tensors = {"pad": noise("U8", [3], 0), "a": noise(dtype, [11, 5, 7], 1)}
    path = write(tmp_path / "a.safetensors", tensors, padding=2)
    expected = reference([path], cuda_device)["a"]
    with safe_open(path, "pt", device=cuda_device) as f:
        part = f.get_slice("a")
        for index in INDEXES:
            found = part[index]
            assert same(found, expected[index]), index
            assert found.untyped_storage().nbytes() == found.nbytes, index


def test_copies_own_storage_of_their_size_and_views_share_it(mixed: Path, cuda_device: torch.device) -> None:
    with safe_open(mixed, "pt", device=cuda_device) as f:
        copies = dict(f.tensors())
    assert [name for name, t in copies.items() if t.untyped_storage().nbytes() != t.nbytes] == []
    addresses = [t.data_ptr() for t in copies.values() if t.nbytes]
    assert len(set(addresses)) == len(addresses)
    with safe_open(mixed, "pt", device=cuda_device, copy=False) as f:
        # Those whose place in the slab is not aligned to their elements are moved, not copied out of it.
        views = dict(f.tensors())
    storages = {t.untyped_storage().data_ptr() for t in views.values() if t.nbytes}
    assert len(storages) == 1


def test_a_filter_decides_what_is_loaded(mixed: Path, cuda_device: torch.device) -> None:
    expected = {name: t for name, t in reference([mixed], cuda_device).items() if name.startswith("BF16.")}
    with safe_open(mixed, "pt", device=cuda_device, tensor_filter=["BF16.*"]) as f:
        check(dict(f.tensors()), expected)


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("backend", ["AIO", "BUFFERED", "AIO_BUFFERED"])
def test_from_disk_past_the_page_cache_and_through_it(
    tmp_path: Path, cuda_device: torch.device, backend: str, copy: bool
) -> None:
    tensors = {f"t{n}": noise("BF16", [n + 1, 997], n) for n in range(180)}
    path = write(tmp_path / "a.safetensors", tensors, padding=3)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    candidates = [backend, "MMAP"]
    with safe_open(path, "pt", device=cuda_device, backend=candidates, copy=copy, buffer_size=4 * MIB) as f:
        loaded = dict(f.tensors())
        (file,) = f.stats()["files"]
    check(loaded, reference([path], cuda_device))
    if backend == "AIO" and file["mode"] != "direct":
        pytest.skip(f"{tmp_path} takes no direct reads: {file['passed_over']}")
    assert file["mode"] == ("direct" if backend == "AIO" else "buffered")
