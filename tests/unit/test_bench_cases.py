"""The rows of the bench, and the checkpoints that it writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bench_support import BENCH, module
from safetensors import safe_open

MAX_LINES = 300

bars, cases, checkpoints, consuming, loaders = map(module, ("bars", "cases", "checkpoints", "consuming", "loaders"))


def test_a_name_is_given_once() -> None:
    names = [case.name for case in cases.CASES]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_a_row_names_only_what_there_is(case: Any) -> None:
    assert set(case.loaders) <= set(loaders.LOADERS)
    assert case.consume in consuming.CONSUMERS
    assert case.where in ("memory", "disk")
    assert case.cache in ("as is", "cached", "cold")
    assert set(case.shown) <= {"first", "later", "boot"}
    for one in (*case.full, *case.small):
        assert checkpoints.needed_bytes(one.kind, one.numbers) > 0
    for sentence in case.bars:
        parts = bars.parse(sentence)
        rivals = [*parts.get("rivals", "").split(","), *parts.get("other", "").split(","), parts["loader"]]
        assert {rival for rival in rivals if rival} <= set(case.loaders)
        assert cases.case_of(parts.get("case", case.name)).bars


@pytest.mark.parametrize(
    "sentence",
    [
        "ours later >= fast", "ours later <= 20000 us", "ours python <= 13 ms", "ours python >= 1 L",
        "ours boot >= 1 GB/s", "ours later <= 100 MiB", "ours slabs <= 4 requests", "ours open linear",
    ],
)  # fmt: skip
def test_what_is_no_bar_is_refused(sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^'{sentence}' is no bar$"):
        bars.parse(sentence)


@pytest.mark.parametrize(
    ("kind", "numbers", "files", "tensors", "size"),
    [
        ("tiny", (), 1, 1, 16),
        ("small", (10, 4096), 1, 10, 40_960),
        ("giant", (5, 1 << 20, 2), 2, 5, 5 << 20),
        ("hollow", (5, 1 << 20, 2), 2, 5, 5 << 20),
        ("moe", (1, 0.08), 1, 27, 77_791_232 + 4096 + 256 + 24 * (3 << 20)),
        ("many", (3, 3000), 3, 3000, None),
    ],
)
def test_a_checkpoint_has_what_was_promised(
    kind: str, numbers: tuple[float, ...], files: int, tensors: int, size: int | None, tmp_path: Path
) -> None:
    told = checkpoints.write(kind, tmp_path, *numbers)
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == files
    names = []
    for path in paths:
        with safe_open(path, "pt") as f:
            names += f.keys()
    assert told[0] == len(names) == len(set(names)) == tensors
    assert sum(path.stat().st_blocks * 512 for path in paths) <= checkpoints.needed_bytes(kind, numbers) + files * 4096
    if size is not None:
        assert told[1] == size
    for path in paths:
        assert list(checkpoints.read_header(path))


def test_many_has_the_names_of_deepseek_v3(tmp_path: Path) -> None:
    checkpoints.write("many", tmp_path, 3, 3000)
    header = checkpoints.read_header(tmp_path / "model-00001-of-00003.safetensors")
    scales = header["model.layers.3.mlp.experts.0.gate_proj.weight_scale_inv"]
    assert (scales["dtype"], scales["shape"]) == ("F32", [16, 56])


def test_contents_are_random_and_always_the_same(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        checkpoints.write("giant", tmp_path / folder, 3, 20 << 20, 2)
    contents = [[path.read_bytes() for path in sorted((tmp_path / folder).iterdir())] for folder in ("a", "b")]
    assert contents[0] == contents[1]
    tensors = []
    for path in sorted((tmp_path / "a").iterdir()):
        with safe_open(path, "pt") as f:
            tensors += [f.get_tensor(name).view(torch.uint8) for name in f.keys()]
    for tensor in tensors:
        assert tensor.double().mean().item() == pytest.approx(127.5, abs=0.5)
        assert sum(torch.equal(tensor, other) for other in tensors) == 1


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ValueError, match="^'huge' is no kind of checkpoint: moe, small, giant, hollow, many or tiny$"):
        checkpoints.entries_of("huge", ())


def test_no_file_of_the_bench_has_more_than_300_lines() -> None:
    lines = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in BENCH.glob("*.py")}
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}
