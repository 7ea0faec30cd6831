"""The format's types in torch and numpy."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from instanttensor import _dtypes, safe_open
from instanttensor._errors import UnsupportedDtypeError
from safetensors import SafetensorError
from samples import BITS, F6, bytes_of, stored, write


def test_all_types_of_the_format_are_known_in_the_engines_order() -> None:
    assert _dtypes.NAMES == tuple(BITS)


@pytest.mark.parametrize("name", [name for name in BITS if name not in F6])
def test_torch_has_a_type_of_the_same_size(name: str) -> None:
    bits = 8 * torch.empty(0, dtype=_dtypes.torch_dtype(name)).itemsize
    assert bits == (8 if name == "F4" else BITS[name])


@pytest.mark.parametrize("name", [name for name in BITS if name not in (*F6, "F4")])
def test_numpy_has_a_type_of_the_same_size(name: str) -> None:
    assert 8 * _dtypes.numpy_dtype(name).itemsize == BITS[name]


def test_a_type_that_torch_has_not() -> None:
    with pytest.raises(UnsupportedDtypeError) as refused:
        _dtypes.torch_dtype("F6_E2M3")
    assert str(refused.value) == (
        f"dtype F6_E2M3: torch {torch.__version__} has no element type for it; "
        "the file can be opened, and its other tensors loaded"
    )
    assert isinstance(refused.value, SafetensorError)
    assert isinstance(refused.value, ValueError)


def test_a_type_that_numpy_has_not() -> None:
    with pytest.raises(UnsupportedDtypeError) as refused:
        _dtypes.numpy_dtype("F6_E3M2")
    assert str(refused.value) == (
        "dtype F6_E3M2: numpy has no element type for it; the file can be opened, and its other tensors loaded"
    )


def test_without_ml_dtypes_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"a": stored("BF16", [2]), "b": stored("F32", [2])})
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    _dtypes.numpy_dtype.cache_clear()
    with safe_open(path, "np") as f:
        assert f.get_tensor("b").dtype == np.float32
        with pytest.raises(SafetensorError) as refused:
            f.get_tensor("a")
    assert str(refused.value) == (
        "tensor 'a': dtype BF16: numpy has no element type for it; pip install ml_dtypes, or use framework='pt'"
    )


def test_metadata_of_a_tensor(checkpoint: Path) -> None:
    with safe_open(checkpoint, "pt") as f:
        assert f.get_tensor_metadata("of.BF16") == (torch.bfloat16, torch.Size([3, 4]))
        assert f.get_tensor_metadata("of.F4") == (torch.float4_e2m1fn_x2, torch.Size([3, 2]))
        assert f.get_tensor_metadata("scalar") == (torch.float64, torch.Size([]))
        dtype, shape = f.get_tensor_metadata("empty")
        assert (type(dtype), type(shape), shape) == (torch.dtype, torch.Size, (0, 3))
    with safe_open(checkpoint, "np") as f:
        assert f.get_tensor_metadata("of.I16") == (np.dtype("int16"), (3, 4))


def test_a_dimension_beyond_63_bits_stays_positive(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"a": ("F32", [0, (1 << 64) - 1], b"")})
    with safe_open(path, "pt") as f:
        assert f.get_slice("a").get_shape() == [0, (1 << 64) - 1]


def test_all_types_load_where_torch_has_to_be_deterministic(checkpoint: Path) -> None:
    def loaded() -> list[torch.Tensor]:
        with safe_open(checkpoint, "pt") as f:
            return [*dict(f.tensors()).values(), *f.get_tensors().values()]

    expected = loaded()
    torch.use_deterministic_algorithms(True)
    try:
        found = loaded()
    finally:
        torch.use_deterministic_algorithms(False)
    assert list(map(bytes_of, found)) == list(map(bytes_of, expected))


@pytest.mark.parametrize("copy", [False, True])
def test_bools_keep_their_bytes_whatever_these_are(copy: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"a": ("BOOL", [16, 16], bytes(range(256))), "b": stored("F32", [3])})
    with safe_open(path, "pt", copy=copy) as f:
        found = dict(f.tensors())["a"], f.get_tensor("a"), f.get_slice("a")[::2, 1]
    # A byte of theirs as a bool is 0 or 1 wherever it is looked at.
    as_bytes = [bytes(tensor.view(torch.uint8).flatten().tolist()) for tensor in found]
    assert as_bytes == [bytes(range(256)), bytes(range(256)), bytes(range(1, 256, 32))]
