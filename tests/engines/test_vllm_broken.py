"""vLLM's weights iterator when somebody leaves in the middle, or the files are not what they were."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from vllm.config import set_current_vllm_config
from vllm_engine import (
    Opening,
    any_bits,
    config,
    index,
    loader,
    seen,
    shards,
    slabs_held,
    watch,
    weights,
)

pytestmark = pytest.mark.usefixtures("openings")


@pytest.fixture
def long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """24 tensors of 100 KiB in two files, and slabs for three of them at a time."""
    monkeypatch.setenv("INSTANTTENSOR_BUFFER_SIZE", "300000")
    files = [{f"t{n + 12 * file}": any_bits("F32", [25_600], n) for n in range(12)} for file in (0, 1)]
    return shards(tmp_path / "long", *files)


def slabs_come_back(before: int) -> None:
    deadline = time.monotonic() + 10
    while slabs_held() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert slabs_held() <= before


@pytest.mark.parametrize("how", ["closed", "dropped"])
def test_an_abandoned_iterator_leaves_nothing_behind(long: Path, how: str, nothing_stays: None) -> None:
    before = slabs_held()
    iterator = weights(long, "instanttensor")
    taken = [next(iterator) for _ in range(3)]
    if how == "closed":
        iterator.close()  # type: ignore[attr-defined]
    del iterator
    slabs_come_back(before)
    # What was taken stays what it was, and the next load is whole.
    whole = seen(weights(long, "safetensors"))
    assert set(seen(taken)) < set(whole)
    assert seen(weights(long, "instanttensor")) == whole


def test_a_model_that_refuses_a_weight_leaves_nothing_behind(long: Path, nothing_stays: None) -> None:
    class Picky(torch.nn.Module):
        def load_weights(self, tensors: Any) -> None:
            for number, (name, _) in enumerate(tensors):
                if number == 3:
                    raise ValueError(f"no parameter {name}")

    before = slabs_held()
    model_config: Any = SimpleNamespace(
        model=str(long), revision=None, quantization=None, is_moe=False, multimodal_config=None
    )
    with set_current_vllm_config(config("instanttensor")), pytest.raises(ValueError, match="^no parameter t3$"):
        loader("instanttensor").load_weights(Picky(), model_config)
    slabs_come_back(before)
    assert seen(weights(long, "instanttensor")) == seen(weights(long, "safetensors"))


def first(folder: Path) -> Path:
    return min(folder.glob("*.safetensors"))


def cut(file: Path) -> int:
    """Takes 100 bytes off; answers what is left."""
    left = file.stat().st_size - 100
    os.truncate(file, left)
    return left


def test_a_shard_that_was_cut_is_refused_by_vllms_own_look_at_the_headers(long: Path, openings: list[Opening]) -> None:
    """vLLM reads the headers by safetensors before it calls us, and safetensors names no file."""
    cut(first(long))
    with pytest.raises(SafetensorError, match="incomplete metadata, file not fully covered$"):
        list(weights(long, "instanttensor"))
    assert openings == []


def test_a_shard_that_is_cut_after_that_look_is_named(
    long: Path, monkeypatch: pytest.MonkeyPatch, nothing_stays: None
) -> None:
    file = first(long)
    watch(monkeypatch.setattr, before=lambda: cut(file))
    with pytest.raises(SafetensorError) as told:
        list(weights(long, "instanttensor"))
    left = file.stat().st_size
    assert str(told.value) == (
        f"Error while deserializing header: MetadataIncompleteBuffer: {file}: expected 1,228,800 bytes of data behind "
        f"the header, which ends at {left + 100 - 1_228_800:,}, found 1,228,700: the file was cut short "
        f"(it has {left:,} bytes)"
    )


def test_a_shard_that_is_cut_under_the_load_is_named(
    long: Path, monkeypatch: pytest.MonkeyPatch, nothing_stays: None
) -> None:
    file = first(long)
    watch(monkeypatch.setattr, after=lambda: cut(file))
    with pytest.raises(OSError) as told:
        list(weights(long, "instanttensor"))
    left = file.stat().st_size
    assert str(told.value).startswith(f"{file}: expected to read ")
    assert str(told.value).endswith(f": the file has {left:,} bytes, and had {left + 100:,} when it was opened")


def test_a_shard_that_vanishes_is_named(long: Path, monkeypatch: pytest.MonkeyPatch, nothing_stays: None) -> None:
    file = first(long)
    watch(monkeypatch.setattr, before=file.unlink)
    with pytest.raises(FileNotFoundError) as told:
        list(weights(long, "instanttensor"))
    assert (told.value.filename, told.value.strerror) == (str(file), "no such file or folder")


def test_a_shard_that_the_index_names_and_the_folder_lacks_is_named_by_vllm(long: Path) -> None:
    file = first(index(long))
    file.unlink()
    with pytest.raises(FileNotFoundError, match=f"^Weight files referenced in index but missing: {{'{file}'}}$"):
        weights(long, "instanttensor")
