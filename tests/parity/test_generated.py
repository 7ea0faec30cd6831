"""Whatever safetensors reads, we read: the same names, types, shapes and bytes, under any options."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from instanttensor import safe_open
from safetensors import SafetensorError
from samples import BITS, F6, Stored, bytes_of, some_bytes, stored, write

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(lambda name: name != "__metadata__")


@st.composite
def tensor(draw: st.DrawFn, dtypes: tuple[str, ...] = tuple(BITS), least_rank: int = 0) -> Stored:
    dtype = draw(st.sampled_from(dtypes))
    shape = draw(st.lists(st.integers(0, 5), min_size=least_rank, max_size=4))
    if BITS[dtype] < 8:
        # Whole bytes, and whole pairs in the last dimension, which is what torch can hold.
        shape = [*shape, draw(st.sampled_from([0, 4, 8]))]
    return stored(dtype, shape, draw(st.integers(0, 99)))


@st.composite
def checkpoints(draw: st.DrawFn) -> list[tuple[dict[str, Stored], dict[str, str] | None, int, bool]]:
    """Files as `write` takes them, no name in two of them."""
    names = draw(st.lists(NAMES, max_size=10, unique=True))
    files: list[dict[str, Stored]] = [{} for _ in range(draw(st.integers(1, 4)))]
    for name in names:
        draw(st.sampled_from(files))[name] = draw(tensor())
    metadata = st.none() | st.dictionaries(st.text(max_size=4), st.text(max_size=8), max_size=2)
    return [(file, draw(metadata), draw(st.integers(0, 9)), draw(st.booleans())) for file in files]


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "buffer_size": st.sampled_from([1, 7, 64, 4096, 1 << 30]),
        "chunk_size": st.sampled_from([1, 4096, 10_000, 1 << 20]),
        "concurrency": st.sampled_from([0, 1, 2, 5]),
        "io_depth": st.sampled_from([1, 2, 7]),
        "copy": st.booleans(),
        "backend": st.sampled_from(["MMAP", "BUFFERED", ["URING", "AIO_BUFFERED"], ["CUFILE", "MMAP"]]),
    },
)


def in_order(files: list[Any]) -> list[tuple[str, Stored]]:
    """By file, offset, name."""
    found = []
    for number, (tensors, *_) in enumerate(files):
        at = 0
        for name, entry in tensors.items():
            found.append(((number, at, name), (name, entry)))
            at += len(entry[2])
    return [entry for _, entry in sorted(found)]


def write_all(folder: str, files: list[Any]) -> list[Path]:
    paths = []
    for number, (tensors, metadata, padding, reverse) in enumerate(files):
        path = Path(folder, f"{number}.safetensors")
        paths.append(write(path, tensors, metadata, padding=padding, reverse=reverse))
    return paths


@settings(max_examples=120)
@given(checkpoints(), OPTIONS, st.sampled_from(["pt", "np"]), st.randoms(use_true_random=False))
def test_tensors_yields_what_the_files_hold_in_order(
    files: list[Any], options: dict[str, Any], framework: str, random: Any
) -> None:
    unable = F6 if framework == "pt" else (*F6, "F4")
    expected = in_order(files)
    able = [(name, entry) for name, entry in expected if entry[0] not in unable]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # tensors larger than such a buffer_size
        paths = write_all(folder, files)
        random.shuffle(paths)
        with safe_open(paths, framework, "cpu", **options) as f:
            assert f.keys() == f.offset_keys() == [name for name, _ in expected]
            assert len(f) == len(expected)
        names = [name for name, _ in able]
        with safe_open(
            paths, framework, "cpu", tensor_filter=names, tensor_name_match_mode="exact", **options
        ) as f:
            assert f.total_tensor_size == sum(len(data) for _, (_, _, data) in able)
            for _ in range(2):
                got = list(f.tensors())
                assert [name for name, _ in got] == names
                for (name, array), (_, (dtype, shape, data)) in zip(got, able, strict=True):
                    assert (array.dtype, array.shape) == f.get_tensor_metadata(name)
                    assert f.get_slice(name).get_dtype() == dtype
                    assert f.get_slice(name).get_shape() == shape
                    assert bytes_of(array) == data
            single = f.get_tensors(reversed(names))
            assert list(single) == names[::-1]
            assert [bytes_of(single[name]) for name in names] == [data for _, (_, _, data) in able]


@settings(max_examples=80)
@given(checkpoints())
def test_types_shapes_bytes_and_metadata_are_those_of_safetensors(files: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for path in write_all(folder, files):
            with safe_open(path, "pt") as ours, safetensors.safe_open(path, "pt") as theirs:
                assert ours.metadata() == theirs.metadata()
                assert sorted(ours.keys()) == sorted(theirs.keys())
                for name in theirs.keys():
                    if theirs.get_slice(name).get_dtype() in F6:
                        continue
                    a, b = ours.get_tensor(name), theirs.get_tensor(name)
                    assert (a.dtype, a.shape, bytes_of(a)) == (b.dtype, b.shape, bytes_of(b))
                    # The same memory format: nobody should have to call contiguous().
                    assert a.is_contiguous()


@settings(max_examples=60)
@given(
    st.dictionaries(NAMES, tensor(tuple(d for d in BITS if d not in F6)), max_size=8),
    st.integers(0, 7),
    st.sampled_from([None, 1, 40, 4096]),
)
def test_copies_own_storage_of_exactly_their_size(
    tensors: dict[str, Stored], padding: int, buffer_size: int | None
) -> None:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        path = write(Path(folder, "a.safetensors"), tensors, padding=padding)
        with safe_open(path, "pt", buffer_size=buffer_size) as f:
            loaded = dict(f.tensors())
            for name, found in [*loaded.items(), *f.get_tensors().items()]:
                assert found.untyped_storage().nbytes() == len(tensors[name][2])
        storages = [t.untyped_storage().data_ptr() for t in loaded.values() if t.numel()]
        assert len(set(storages)) == len(storages)


def test_views_share_a_slab_and_outlive_the_file(tmp_path: Path) -> None:
    tensors = {"a": stored("U8", [5], 1), "b": stored("F64", [3], 2), "c": stored("F32", [2, 2], 3)}
    path = write(tmp_path / "a.safetensors", tensors, padding=1)
    with safe_open(path, "pt", copy=False) as f:
        views = dict(f.tensors())
    assert len({view.untyped_storage().data_ptr() for view in views.values()}) == 1
    path.unlink()
    assert {name: bytes_of(view) for name, view in views.items()} == {n: data for n, (_, _, data) in tensors.items()}


@pytest.mark.parametrize("dtype", [d for d in BITS if BITS[d] >= 8])
@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("framework", ["pt", "np"])
def test_data_may_lie_anywhere(tmp_path: Path, dtype: str, copy: bool, framework: str) -> None:
    """At each offset from 0 to 7 modulo 8, in the file and behind a tensor of odd size."""
    for padding in range(8):
        tensors = {"odd": stored("U8", [2 * padding + 1], 1), "wanted": stored(dtype, [3, 5], 2)}
        path = write(tmp_path / f"{padding}.safetensors", tensors, padding=padding)
        with safe_open(path, framework, copy=copy) as f:
            found = dict(f.tensors())
        assert bytes_of(found["odd"]) == tensors["odd"][2]
        assert bytes_of(found["wanted"]) == tensors["wanted"][2]
        address = found["wanted"].data_ptr() if framework == "pt" else found["wanted"].ctypes.data
        assert address % found["wanted"].itemsize == 0


@st.composite
def indexes(draw: st.DrawFn, shape: list[int]) -> Any:
    """What get_slice takes of such a tensor: fewer indexes than dimensions too, and one '...'."""
    parts: list[Any] = []
    for size in shape[: draw(st.integers(0, len(shape)))]:
        if size and draw(st.booleans()):
            parts.append(draw(st.integers(-size, size - 1)))
        else:
            end = st.none() | st.integers(-size, size)
            parts.append(slice(draw(end), draw(end), draw(st.none() | st.integers(1, 3))))
    if draw(st.booleans()):
        # Whatever stands behind the dots counts from the end.
        dots = draw(st.integers(0, len(parts)))
        back = len(parts) - dots
        tail = [draw(st.integers(-size, size - 1)) if size else slice(None) for size in shape[len(shape) - back :]]
        parts = [*parts[:dots], ..., *tail] if dots + back <= len(shape) else [...]
    return parts[0] if len(parts) == 1 and draw(st.booleans()) else tuple(parts)


@settings(max_examples=150)
@given(st.data(), st.sampled_from(["pt", "np"]))
def test_slices_are_those_of_torch_and_numpy(data: st.DataObject, framework: str) -> None:
    dtype, shape, content = data.draw(tensor(("U8", "BOOL", "I16", "F32", "F64", "C64")))
    index = data.draw(indexes(shape))
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder, "a.safetensors"), {"before": stored("U8", [3]), "a": (dtype, shape, content)})
        with safe_open(path, framework) as f:
            part, whole = f.get_slice("a")[index], f.get_tensor("a")
        expected = whole[index]
        assert (part.dtype, part.shape) == (expected.dtype, expected.shape)
        assert bytes_of(part) == bytes_of(np.ascontiguousarray(expected) if framework == "np" else expected)
        if framework == "pt":
            assert part.untyped_storage().nbytes() == part.nbytes


@settings(max_examples=40)
@given(st.data(), st.sampled_from([d for d in BITS if d not in F6]))
def test_rows_of_every_type_can_be_sliced(data: st.DataObject, dtype: str) -> None:
    rows = data.draw(st.integers(1, 6))
    shape = [rows, 2, 4]
    entry = stored(dtype, shape, 5)
    first, stop = sorted(data.draw(st.tuples(st.integers(0, rows), st.integers(0, rows))))
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder, "a.safetensors"), {"a": entry})
        with safe_open(path, "pt") as f:
            part = f.get_slice("a")[first:stop]
    row = len(entry[2]) // rows
    assert bytes_of(part) == entry[2][first * row : stop * row]


def test_a_slice_of_rows_reads_only_those(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"a": ("F32", [1 << 14, 64], some_bytes(4 << 20))})
    with safe_open(path, "pt", backend="MMAP") as f:
        rows = f.get_slice("a")[1000:1010]
        assert rows.shape == (10, 64)
        assert f.stats()["bytes"] == 10 * 64 * 4
        assert f.stats()["read_bytes"] < 100_000
        f.get_slice("a")[7, ::2]
        assert f.stats()["bytes"] == 11 * 64 * 4


def test_gaps_of_64_kib_between_wanted_tensors_are_not_read(tmp_path: Path) -> None:
    tensors = {"a": stored("U8", [100]), "gap": stored("U8", [1 << 20]), "b": stored("U8", [100], 3)}
    path = write(tmp_path / "a.safetensors", tensors)
    with safe_open(path, "pt", tensor_filter=["?"], backend="MMAP") as f:
        found = {name: bytes_of(t) for name, t in f.tensors()}
        assert f.stats()["read_bytes"] < 70_000
    assert found == {"a": tensors["a"][2], "b": tensors["b"][2]}


@pytest.mark.parametrize("dtype", F6)
@pytest.mark.parametrize("framework", ["pt", "np"])
def test_f6_is_refused_by_name_when_asked_for_and_not_before(tmp_path: Path, dtype: str, framework: str) -> None:
    tensors = {"a": stored("F32", [2]), "six": stored(dtype, [4]), "z": stored("U8", [1])}
    path = write(tmp_path / "a.safetensors", tensors)
    with safe_open(path, framework) as f:
        assert f.keys() == ["a", "six", "z"]
        assert f.get_tensor("a").shape == (2,)
        assert (f.get_slice("six").get_dtype(), f.get_slice("six").get_shape()) == (dtype, [4])
        iterator = f.tensors()
        for ask in (
            lambda: f.get_tensor("six"),
            lambda: f.get_slice("six")[:],
            lambda: f.get_tensor_metadata("six"),
            f.get_tensors,
            lambda: list(iterator),
        ):
            text = f"^tensor 'six': dtype {dtype}: (torch|numpy) .*has no element type for it"
            with pytest.raises(SafetensorError, match=text):
                ask()
        assert [name for name, _ in safe_open(path, framework, tensor_filter=["a", "z"]).tensors()] == ["a", "z"]


def test_f4_is_refused_by_name_with_numpy(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"four": stored("F4", [2, 4])})
    with safe_open(path, "np") as f, pytest.raises(ValueError) as refused:
        f.get_tensor("four")
    assert str(refused.value) == "tensor 'four': dtype F4: numpy has no element type for it; use framework='pt'"


def test_f4_halves_the_last_dimension(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"four": stored("F4", [3, 4], 1), "odd": stored("F4", [2, 3])})
    with safe_open(path, "pt") as f:
        assert f.get_tensor_metadata("four") == (torch.float4_e2m1fn_x2, torch.Size([3, 2]))
        assert f.get_slice("four").get_shape() == [3, 4]
        assert f.get_slice("four")[1].shape == (2,)
        with pytest.raises(SafetensorError) as refused:
            f.get_slice("four")[:, 1]
        assert str(refused.value) == (
            "tensor four: F4 packs two elements a byte, and cannot be sliced in its last dimension"
        )
        with pytest.raises(SafetensorError) as refused:
            f.get_tensor("odd")
        assert str(refused.value) == (
            "tensor 'odd': dtype F4: torch packs two elements a byte; the last dimension of [2, 3] is odd"
        )


def test_bfloat16_and_fp8_reach_numpy_through_ml_dtypes(tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    values = {
        "BF16": ml_dtypes.bfloat16,
        "F8_E5M2": ml_dtypes.float8_e5m2,
        "F8_E4M3": ml_dtypes.float8_e4m3fn,
        "F8_E8M0": ml_dtypes.float8_e8m0fnu,
        "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
        "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    }
    arrays = {dtype: np.array([1, 2, 0.5], element) for dtype, element in values.items()}
    path = write(tmp_path / "a.safetensors", {d: (d, [3], array.tobytes()) for d, array in arrays.items()})
    with safe_open(path, "np") as f:
        for dtype, array in f.tensors():
            assert array.dtype == values[dtype]
            assert np.array_equal(array, arrays[dtype])


def test_many_small_tensors_in_many_files(tmp_path: Path) -> None:
    for number in range(20):
        tensors = {f"{number}.{i}": stored("I16", [i % 7, 3], i) for i in range(100)}
        write(tmp_path / f"{number:02}.safetensors", tensors, padding=number)
    with safe_open(tmp_path, "pt", buffer_size=1000, concurrency=3) as f:
        loaded = dict(f.tensors())
    for file in sorted(tmp_path.iterdir()):
        with safetensors.safe_open(file, "pt") as theirs:
            for name in theirs.keys():
                assert torch.equal(loaded.pop(name), theirs.get_tensor(name))
    assert loaded == {}
