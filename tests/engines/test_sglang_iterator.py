"""SGLang's `_get_weights_iterator` with our format, and with its own for safetensors."""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import instanttensor
import pytest
import sglang_checkpoints as checkpoints
import sglang_engine as engine
import torch
from safetensors import SafetensorError
from samples import stored, write


@pytest.fixture(autouse=True)
def host() -> Iterator[None]:
    with engine.published(), engine.as_on_a_gpu():
        yield


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What SGLang opened through us: the arguments, and with them the object."""
    calls: list[dict[str, Any]] = []

    class Opened(instanttensor.safe_open):
        def __init__(self, filename: Any, **options: Any) -> None:
            super().__init__(filename, **options)
            calls.append({"filename": filename, "file": self, **options})

    monkeypatch.setattr(instanttensor, "safe_open", Opened)
    return calls


def test_it_is_this_package_that_sglang_opens_files_with(minilm: Path, opened: list[dict[str, Any]]) -> None:
    dict(engine.weights(engine.loader(), minilm))
    (call,) = opened
    file = call.pop("file")
    assert call == {
        "filename": [str(minilm / "model.safetensors")],
        "framework": "pt",
        "device": torch.device("cpu"),
        "process_group": None,
        "copy": True,
    }
    # Closed by SGLang, in the ordinary way.
    with pytest.raises(SafetensorError, match=r"^File is closed$"):
        file.keys()


def test_the_real_checkpoint_is_that_of_sglangs_safetensors(minilm: Path) -> None:
    expected = engine.by_safetensors(minilm)
    assert len(expected) == 104
    assert engine.seen(engine.weights(engine.loader(), minilm)) == expected


@pytest.mark.parametrize("count", [1, 3, 8])
def test_every_type_in_several_files_is_that_of_sglangs_safetensors(count: int, tmp_path: Path) -> None:
    folder = checkpoints.shards(tmp_path, count, seed=count)
    expected = engine.by_safetensors(folder)
    assert len(expected) == 5 * len(checkpoints.DTYPES)
    assert {dtype for dtype, _, _ in expected.values()} == {
        "torch.bfloat16", "torch.float16", "torch.float32", "torch.float8_e4m3fn", "torch.float8_e5m2",
        "torch.int8", "torch.uint8", "torch.int32", "torch.int64", "torch.bool",
    }  # fmt: skip
    assert engine.seen(engine.weights(engine.loader(), folder)) == expected


def test_files_without_an_index_are_all_read(tmp_path: Path) -> None:
    folder = checkpoints.shards(tmp_path)
    (folder / "model.safetensors.index.json").unlink()
    expected = engine.by_safetensors(folder)
    assert len(expected) == 50
    assert engine.seen(engine.weights(engine.loader(), folder)) == expected


def test_a_file_that_the_index_does_not_name_is_left_to_sglangs_filter(
    tmp_path: Path, opened: list[dict[str, Any]]
) -> None:
    folder = checkpoints.shards(tmp_path)
    write(folder / "consolidated.safetensors", {"scalar.F32": stored("F32", [2, 2])})
    assert engine.seen(engine.weights(engine.loader(), folder)) == engine.by_safetensors(folder)
    assert [Path(path).name for path in opened[0]["filename"]] == [
        f"model-{number:05}-of-00003.safetensors" for number in (1, 2, 3)
    ]


def test_beside_one_file_sglang_leaves_the_consolidated_one_out(
    tmp_path: Path, opened: list[dict[str, Any]]
) -> None:
    write(tmp_path / "model.safetensors", {"a": stored("F32", [3])})
    write(tmp_path / "consolidated.safetensors", {"a": stored("F32", [3], 1)})
    assert engine.seen(engine.weights(engine.loader(), tmp_path)) == engine.by_safetensors(tmp_path)
    assert opened[0]["filename"] == [str(tmp_path / "model.safetensors")]


def test_a_name_in_two_files_comes_twice_as_from_sglangs_safetensors(tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b")):
        write(tmp_path / f"{name}.safetensors", {"same": stored("I32", [4], number), name: stored("I32", [1])})
    expected = [(n, t.tolist()) for n, t in engine.weights(engine.loader("safetensors"), tmp_path)]
    with pytest.warns(UserWarning, match=r"^tensor 'same' is in .*a\.safetensors and .*b\.safetensors: "):
        found = [(n, t.tolist()) for n, t in engine.weights(engine.loader(), tmp_path)]
    assert sorted(found) == sorted(expected)
    assert [name for name, _ in found].count("same") == 2


def test_sglangs_prefix_comes_before_every_name(minilm: Path) -> None:
    plain = engine.seen(engine.weights(engine.loader(), minilm))
    prefixed = engine.seen(engine.weights(engine.loader(), minilm, prefix="bert."))
    assert prefixed == {f"bert.{name}": tensor for name, tensor in plain.items()}


@pytest.mark.parametrize("draft", [0, 1, 2])
def test_one_draft_of_several_is_filtered_and_renamed_by_sglang(draft: int, tmp_path: Path) -> None:
    tensors = {f"model.mtp.layers.{n}.mlp.weight": stored("BF16", [5, 3], n) for n in range(3)}
    folder = write(tmp_path / "model.safetensors", tensors | {"lm_head.weight": stored("BF16", [4])}).parent
    expected = engine.by_safetensors(folder, draft_model_idx=draft)
    assert sorted(expected) == ["lm_head.weight", "model.mtp.layers.0.mlp.weight"]
    assert expected["model.mtp.layers.0.mlp.weight"][2] == tensors[f"model.mtp.layers.{draft}.mlp.weight"][2]
    assert engine.seen(engine.weights(engine.loader(draft_model_idx=draft), folder)) == expected


def test_tensors_outlive_their_iterator_and_each_other(tmp_path: Path) -> None:
    folder = checkpoints.shards(tmp_path)
    kept = dict(engine.weights(engine.loader(extra={"buffer_size": 2 << 20}), folder))
    gc.collect()
    expected = engine.by_safetensors(folder)
    assert engine.seen(kept.items()) == expected
    for tensor in kept.values():
        tensor.zero_()
    assert engine.by_safetensors(folder) == expected


@pytest.mark.parametrize("taken", [0, 1, 5])
@pytest.mark.parametrize("end", ["closed", "collected"])
def test_a_generator_that_is_left_leaves_nothing_behind(
    taken: int, end: str, tmp_path: Path, nothing_stays: None
) -> None:
    folder = checkpoints.shards(tmp_path)
    # One slab of several, so that readers are at work when it is left.
    left = engine.weights(engine.loader(extra={"buffer_size": 1 << 20}), folder)
    for _ in range(taken):
        next(left)
    if end == "closed":
        left.close()  # type: ignore[attr-defined]
    del left
    gc.collect()
    assert engine.seen(engine.weights(engine.loader(), folder)) == engine.by_safetensors(folder)


def test_loads_of_two_models_at_once_do_not_mix(minilm: Path, tmp_path: Path, nothing_stays: None) -> None:
    folder = checkpoints.shards(tmp_path)
    target, draft = engine.weights(engine.loader(), minilm), engine.weights(engine.loader(), folder)
    found: tuple[list[Any], list[Any]] = ([], [])
    for pair in zip(target, draft):
        for list_, item in zip(found, pair):
            list_.append(item)
    # zip has taken one more of the first before it learnt that the second was at its end.
    names = {name for name, _ in found[0]}
    assert {n: t for n, t in engine.by_safetensors(minilm).items() if n in names} == engine.seen(found[0])
    assert engine.by_safetensors(folder) == engine.seen(found[1])
    target.close()  # type: ignore[attr-defined]


def test_a_truncated_file_is_named_before_any_tensor_comes(tmp_path: Path, nothing_stays: None) -> None:
    folder = checkpoints.shards(tmp_path)
    broken = folder / "model-00003-of-00003.safetensors"
    checkpoints.truncate(broken, 100)
    came = []
    with pytest.raises(SafetensorError, match=re.escape(str(broken))) as caught:
        came.extend(engine.weights(engine.loader(), folder))
    assert came == []
    assert "MetadataIncompleteBuffer" in str(caught.value)


def test_what_is_no_safetensors_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 90900000\n")
    with pytest.raises(SafetensorError, match=re.escape(str(path))) as caught:
        dict(engine.weights(engine.loader(), tmp_path))
    assert "HeaderTooLarge" in str(caught.value)


def test_files_of_another_kind_are_refused_by_sglang_and_named(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"^InstantTensor only supports \.safetensors checkpoints; ") as caught:
        dict(engine.weights(engine.loader(), tmp_path))
    assert str(tmp_path / "model.pt") in str(caught.value)


def test_a_shard_that_is_not_there_is_sglangs_error(tmp_path: Path) -> None:
    folder = checkpoints.shards(tmp_path)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(RuntimeError, match=r"missing from .*model-00002-of-00003\.safetensors"):
        dict(engine.weights(engine.loader(), folder))


def test_an_index_that_names_a_tensor_no_file_has_brings_what_safetensors_brings(tmp_path: Path) -> None:
    folder = checkpoints.shards(tmp_path)
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["phantom"] = "model-00001-of-00003.safetensors"
    index.write_text(json.dumps(content))
    assert engine.seen(engine.weights(engine.loader(), folder)) == engine.by_safetensors(folder)
