"""vLLM's weights iterator: whatever its own one over safetensors yields, it yields by us."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from samples import BITS, F6, Stored, write
from vllm.config import set_current_vllm_config
from vllm.config.engram import EngramConfig
from vllm.config.load import LoadConfig
from vllm.model_executor.model_loader import get_model_loader, weight_utils
from vllm.model_executor.model_loader.ep_weight_filter import compute_local_expert_ids
from vllm_engine import (
    Opening,
    any_bits,
    config,
    index,
    seen,
    shards,
    slabs_held,
    weights,
)

pytestmark = pytest.mark.usefixtures("openings")


@pytest.fixture
def of_all_types(tmp_path: Path) -> Path:
    """Three files with a tensor of each type that safetensors reads, empty ones and scalars."""
    types = [dtype for dtype in BITS if dtype not in F6]
    files: list[dict[str, Stored]] = [{}, {}, {}]
    for number, dtype in enumerate(types):
        files[number % 3][f"layers.{number}.{dtype}"] = any_bits(dtype, [number + 1, 6], number)
        files[(number + 1) % 3][f"scalars.{dtype}"] = any_bits(dtype, [] if dtype != "F4" else [2], number)
        files[(number + 2) % 3][f"empty.{dtype}"] = any_bits(dtype, [0, 4], number)
    return shards(tmp_path / "types", *files)


def equal(folder: Path, openings: list[Opening], ids: set[int] | None = None) -> list[str]:
    """Compares both iterators; answers the names."""
    found = list(weights(folder, "instanttensor", ids))
    assert seen(found) == seen(weights(folder, "safetensors", ids))
    # They came through us, and not from the look that vLLM takes at the headers.
    (opening,) = openings
    assert opening.stats["bytes"] == sum(tensor.nbytes for _, tensor in found)
    openings.clear()
    return sorted(name for name, _ in found)


# -------------------------------------------------------------------------------------- the whole


def test_the_real_checkpoint_is_the_same(minilm: Path, openings: list[Opening]) -> None:
    assert len(equal(minilm, openings)) == 104


def test_every_type_comes_bit_by_bit(of_all_types: Path, openings: list[Opening]) -> None:
    assert len(equal(of_all_types, openings)) == 3 * 20
    assert len(equal(index(of_all_types), openings)) == 3 * 20


def test_what_vllm_asks_for(of_all_types: Path, openings: list[Opening]) -> None:
    list(weights(of_all_types, "instanttensor"))
    (opening,) = openings
    assert sorted(opening.files) == sorted(map(str, of_all_types.glob("*.safetensors")))
    assert opening.options == {
        "framework": "pt", "device": "cpu", "process_group": None, "copy": True,
        "tensor_filter": None, "tensor_name_match_mode": "exact",
    }  # fmt: skip


def test_a_duplicate_outside_of_the_index_is_left_out(tmp_path: Path, openings: list[Opening]) -> None:
    one, two = {"a": any_bits("BF16", [50, 3], 1)}, {"b": any_bits("F32", [7], 2)}
    folder = index(shards(tmp_path / "m", one, two))
    write(folder / "consolidated.safetensors", one | two)
    assert equal(folder, openings) == ["a", "b"]


@pytest.mark.filterwarnings("ignore:tensor 'a' is in:UserWarning")
def test_a_duplicate_without_an_index_comes_twice_as_vllm_has_it(tmp_path: Path, openings: list[Opening]) -> None:
    one, two = {"a": any_bits("BF16", [50, 3], 1)}, {"b": any_bits("F32", [7], 2)}
    folder = shards(tmp_path / "m", one, two)
    write(folder / "consolidated.safetensors", one | two)
    assert equal(folder, openings) == ["a", "a", "b", "b"]


def test_the_tensors_are_the_callers_own(of_all_types: Path) -> None:
    kept = dict(weights(of_all_types, "instanttensor"))
    before = seen(kept.items())
    assert len({tensor.untyped_storage().data_ptr() for tensor in kept.values() if tensor.numel()}) == 40
    for other in range(3):
        list(weights(of_all_types, "instanttensor"))
        assert seen(kept.items()) == before, other


def test_variables_tune_it(minilm: Path, openings: list[Opening], monkeypatch: pytest.MonkeyPatch) -> None:
    # Less than the largest tensor, which has 46.9 MB, would be a warning.
    monkeypatch.setenv("INSTANTTENSOR_BUFFER_SIZE", "50000000")
    monkeypatch.setenv("INSTANTTENSOR_BACKEND", "BUFFERED")
    list(weights(minilm, "instanttensor"))
    (opening,) = openings
    assert opening.stats["buffer_bytes"] == 50_000_000
    (file,) = opening.stats["files"]
    # Containers have no io_uring, many of them.
    assert file["reason"] in {
        "URING_BUFFERED was asked for: io_uring through the page cache",
        "MMAP was asked for: mmap through the page cache",
    }


def test_vllm_refuses_our_keywords_in_its_extra_config() -> None:
    extra = {"buffer_size": 1 << 30}
    told = "^Unexpected extra config keys for load format instanttensor: {'buffer_size'}$"
    with pytest.raises(ValueError, match=told):
        get_model_loader(LoadConfig(load_format="instanttensor", model_loader_extra_config=extra))


def test_ten_loads_in_one_process_are_the_same(of_all_types: Path, nothing_stays: None) -> None:
    expected = seen(weights(of_all_types, "safetensors"))
    slabs = slabs_held()
    for _ in range(10):
        assert seen(weights(of_all_types, "instanttensor")) == expected
    assert slabs_held() <= slabs


# ---------------------------------------------------------------------------------------- experts


def mixture(folder: Path) -> Path:
    """Two layers of eight experts, with what vLLM never leaves out: scales, shared and fused experts."""
    files = []
    for layer in range(2):
        prefix = f"model.layers.{layer}.mlp"
        tensors = {f"{prefix}.gate.weight": any_bits("BF16", [8, 16], layer)}
        for expert in range(8):
            seed = 10 * layer + expert
            for part in ("gate_proj", "up_proj", "down_proj"):
                tensors[f"{prefix}.experts.{expert}.{part}.weight"] = any_bits("F8_E4M3", [16, 32], seed)
                tensors[f"{prefix}.experts.{expert}.{part}.weight_scale"] = any_bits("F32", [1], seed)
            tensors[f"{prefix}.experts.{expert}.down_proj.weight_packed"] = any_bits("U8", [4, 32], seed)
        tensors[f"{prefix}.shared_experts.gate_proj.weight"] = any_bits("BF16", [16, 32], layer)
        tensors[f"{prefix}.experts.gate_up_proj.weight"] = any_bits("BF16", [8, 4, 4], layer)
        files.append(tensors)
    return index(shards(folder, *files))


@pytest.mark.parametrize("ids", [{0}, {1, 3}, {7, 99}, set(range(8))], ids=str)
def test_only_the_ranks_own_experts_are_loaded(tmp_path: Path, openings: list[Opening], ids: set[int]) -> None:
    folder = mixture(tmp_path / "moe")
    names = equal(folder, openings, ids)
    found = {int(match[1]) for name in names if (match := re.search(r"\.experts\.(\d+)\..*weight$", name))}
    assert found == ids & set(range(8))
    # Of two layers: a gate, 24 scales, a shared expert and a fused one; four weights of each expert.
    assert len(names) == 2 * (27 + 4 * len(found))


@pytest.mark.parametrize("placement", ["linear", "round_robin"])
def test_two_ranks_experts_are_all_of_them(tmp_path: Path, openings: list[Opening], placement: str) -> None:
    folder = mixture(tmp_path / "moe")
    both = [set(equal(folder, openings, compute_local_expert_ids(8, 2, rank, placement))) for rank in (0, 1)]
    assert both[0] | both[1] == set(equal(folder, openings))
    assert not any(re.search(r"\.experts\.\d+\..*(weight|packed)$", name) for name in both[0] & both[1])


def test_ids_that_nobody_has_leave_what_is_no_expert(tmp_path: Path, openings: list[Opening]) -> None:
    folder = mixture(tmp_path / "moe")
    names = equal(folder, openings, {99})
    assert len(names) == 2 * 27
    assert equal(folder, openings, set()) == names


def test_a_checkpoint_of_others_experts_alone_yields_nothing(tmp_path: Path, openings: list[Opening]) -> None:
    tensors = {f"m.experts.{n}.w.weight": any_bits("BF16", [4, 4], n) for n in range(4)}
    folder = shards(tmp_path / "moe", tensors)
    assert list(weights(folder, "instanttensor", {9})) == list(weights(folder, "safetensors", {9})) == []
    (opening,) = openings
    assert opening.options["tensor_filter"] == []
    assert opening.stats["bytes"] == opening.stats["read_bytes"] == 0


def test_ids_for_a_checkpoint_without_experts_filter_nothing(of_all_types: Path, openings: list[Opening]) -> None:
    assert seen(weights(of_all_types, "instanttensor", {1})) == seen(weights(of_all_types, "safetensors", {1}))
    assert openings[0].options["tensor_filter"] is None


# --------------------------------------------------------------------------------------- progress


class Bars:
    """vLLM's progress bars, as it makes them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[Any] = []
        real, made = weight_utils.tqdm, self.made

        class Bar(real):  # type: ignore[misc,valid-type]
            def __init__(self, *args: Any, **options: Any) -> None:
                super().__init__(*args, **options)
                made.append(self)

        monkeypatch.setattr(weight_utils, "tqdm", Bar)


@pytest.mark.parametrize("ids", [None, {1, 3}], ids=["whole", "filtered"])
def test_the_progress_total_is_what_is_yielded(
    tmp_path: Path, ids: set[int] | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = mixture(tmp_path / "moe")
    bars = Bars(monkeypatch)
    yielded = sum(tensor.nbytes for _, tensor in weights(folder, "instanttensor", ids))
    whole = sum(tensor.nbytes for _, tensor in weights(folder, "safetensors"))
    bar = bars.made[0]
    assert bar.desc == "Loading safetensors using InstantTensor loader"
    assert bar.total == bar.n == yielded
    assert (yielded < whole) is (ids is not None)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith(bar.desc)]
    size = weight_utils.tqdm.format_sizeof(yielded, divisor=1024)
    assert lines[-1].startswith(f"{bar.desc}: 100% Completed | {size}/{size} [")


def test_the_progress_of_nothing_ends_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shards(tmp_path / "moe", {"m.experts.0.w.weight": any_bits("BF16", [4, 4], 0)})
    bars = Bars(monkeypatch)
    assert list(weights(folder, "instanttensor", {9})) == []
    assert (bars.made[0].total, bars.made[0].n) == (0, 0)


# ----------------------------------------------------------------------------------------- engram


def test_tables_that_stay_on_the_host_come_from_safetensors_the_rest_from_us(
    tmp_path: Path, openings: list[Opening]
) -> None:
    one = {"a.engram.embed.weight": any_bits("BF16", [64, 8], 1), "a.q.weight": any_bits("BF16", [8, 8], 2)}
    two = {
        "b.ple.ple_embedding.ngram_embedding.shard_0.weight": any_bits("F8_E4M3", [64, 8], 3),
        "b.engram.embed.scale": any_bits("F32", [64], 4),
        "b.o.weight": any_bits("F16", [8, 3], 5),
        "b.experts.1.weight": any_bits("F16", [8], 6),
    }
    folder = shards(tmp_path / "m", one, two)
    offloading = config("instanttensor")
    # Set afterwards: vLLM accepts it for three models of its own only.
    offloading.engram_config = EngramConfig(cpu_offload=True)
    with set_current_vllm_config(offloading):
        found = list(weights(folder, "instanttensor", {0}))
    assert seen(found) == seen(weights(folder, "safetensors", {0}))
    (opening,) = openings
    assert sorted(opening.options["tensor_filter"]) == ["a.q.weight", "b.o.weight"]
    assert opening.stats["bytes"] == 8 * 8 * 2 + 8 * 3 * 2
    # vLLM appends the tables, so ours are the first.
    assert [name for name, _ in found[:2]] == ["a.q.weight", "b.o.weight"]


def test_a_checkpoint_of_such_tables_alone_does_not_reach_us(tmp_path: Path, openings: list[Opening]) -> None:
    folder = shards(tmp_path / "m", {"a.engram.embed.weight": any_bits("BF16", [64, 8], 1)})
    found = weight_utils.instanttensor_weights_iterator(
        [str(next(folder.glob("*.safetensors")))], False, load_engram_on_cpu=True
    )
    assert seen(found) == seen(weights(folder, "safetensors"))
    assert openings == []
