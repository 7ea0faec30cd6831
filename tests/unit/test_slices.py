"""get_slice: what it says, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from instanttensor import safe_open
from safetensors import SafetensorError
from samples import write

VALUES = torch.arange(24, dtype=torch.float32).reshape(4, 3, 2)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[safe_open]:
    path = write(
        tmp_path / "a.safetensors",
        {"a": ("F32", [4, 3, 2], VALUES.numpy().tobytes()), "s": ("F32", [], bytes(4)), "e": ("F32", [0, 3], b"")},
    )
    with safe_open(path, "pt") as f:
        yield f


def test_it_says_what_it_is_without_reading(opened: safe_open) -> None:
    part = opened.get_slice("a")
    assert part.get_shape() == [4, 3, 2]
    assert part.get_dtype() == "F32"
    assert repr(part) == "<slice of 'a': F32 [4, 3, 2]>"
    part.get_shape().append(9)
    assert part.get_shape() == [4, 3, 2]
    assert opened.stats()["loads"] == 0


@pytest.mark.parametrize(
    "index",
    [
        0, -1, np.int64(2), torch.tensor(1), slice(None), slice(1, 3), slice(2, 0), slice(4, 4), slice(None, None, 3),
        slice(3, None, 9), ..., (), (..., 0), (0, ..., 1), (0, 0, 0), (slice(None), 0), (slice(1, 3), slice(1, 2), 1),
        (slice(None), slice(None, None, 2)), (slice(-3, -1), ...), (..., slice(None, 1)),
    ],
)  # fmt: skip
def test_it_is_indexed_like_the_tensor(index: Any, opened: safe_open) -> None:
    part = opened.get_slice("a")[index]
    assert torch.equal(part, VALUES[index])
    assert part.untyped_storage().nbytes() == part.nbytes


def test_scalars_and_empty_tensors(opened: safe_open) -> None:
    assert [opened.get_slice("s")[index].shape for index in ((), ...)] == [(), ()]
    empty = opened.get_slice("e")
    assert [empty[index].shape for index in (slice(None), slice(0, 0), (..., 1))] == [(0, 3), (0, 3), (0,)]


@pytest.mark.parametrize(
    ("name", "index", "builtin", "words"),
    [
        ("a", 4, IndexError, "index 4 is out of bounds for dimension 0 of size 4"),
        ("a", -5, IndexError, "index -5 is out of bounds for dimension 0 of size 4"),
        ("a", (0, 3), IndexError, "index 3 is out of bounds for dimension 1 of size 3"),
        ("a", slice(0, 5), IndexError, "slice end 5 is out of bounds for dimension 0 of size 4"),
        ("a", slice(-5, 2), IndexError, "slice start -5 is out of bounds for dimension 0 of size 4"),
        ("a", (..., slice(3, None)), IndexError, "slice start 3 is out of bounds for dimension 2 of size 2"),
        ("a", slice(None, None, -1), ValueError, "expected a positive step in dimension 0, got -1"),
        ("a", slice(None, None, 0), ValueError, "expected a positive step in dimension 0, got 0"),
        ("a", (0, 0, 0, 0), IndexError, "expected at most 3 indexes, got 4"),
        ("a", (..., 0, ...), IndexError, "expected one '...' at most, got 2"),
        ("s", 0, IndexError, "expected at most 0 indexes, got 1"),
        ("e", 0, IndexError, "index 0 is out of bounds for dimension 0 of size 0"),
    ],
)
def test_what_lies_outside_is_refused(
    name: str, index: Any, builtin: type[Exception], words: str, opened: safe_open
) -> None:
    with pytest.raises(SafetensorError) as refused:
        opened.get_slice(name)[index]
    assert str(refused.value) == f"tensor {name}: {words}"
    assert isinstance(refused.value, builtin)


@pytest.mark.parametrize("index", [None, True, "a", 1.5, [0, 1], (0, None)])
def test_other_kinds_of_index_are_type_errors(index: Any, opened: safe_open) -> None:
    wrong = index[1] if isinstance(index, tuple) else index
    kind = "a bool" if wrong is True else type(wrong).__name__
    with pytest.raises(TypeError) as refused:
        opened.get_slice("a")[index]
    assert str(refused.value) == f"tensor a: expected an int, a slice or '...', got {kind}"
    assert isinstance(refused.value, SafetensorError)


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (torch.tensor([1]), "Tensor of shape [1] and torch.int64"),
        ((0, torch.tensor([[1]])), "Tensor of shape [1, 1] and torch.int64"),
        (torch.tensor(True), "Tensor of shape [] and torch.bool"),
        (np.array([1]), "ndarray of shape [1] and int64"),
        (np.bool_(True), f"{np.bool_.__name__} of shape [] and bool"),
    ],
)
def test_arrays_are_no_index_even_of_one_element(index: Any, words: str, opened: safe_open) -> None:
    with pytest.raises(TypeError) as refused:
        opened.get_slice("a")[index]
    assert str(refused.value) == f"tensor a: expected an int, a slice or '...', got {words}"


def test_one_element_of_numpys_is_an_array_as_safetensors_makes_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"a": ("I64", [3], np.arange(3).tobytes())})
    with safe_open(path, "np") as f:
        part = f.get_slice("a")[1]
    assert isinstance(part, np.ndarray)
    assert part.shape == () and part == 1


@pytest.mark.parametrize("index", [slice(0.0, 1), slice(0, "1"), slice(None, None, 1.5)])
def test_a_slice_of_other_than_ints_is_a_type_error(index: slice, opened: safe_open) -> None:
    wrong = next(end for end in (index.start, index.stop, index.step) if end is not None and type(end) is not int)
    with pytest.raises(TypeError) as refused:
        opened.get_slice("a")[index]
    assert str(refused.value) == f"tensor a: expected ints in a slice, got {type(wrong).__name__}"
