"""Ranks that load together over NCCL, each on a GPU of its own."""

from __future__ import annotations

import gpu_ranks
import pytest
import torch
from rank_worlds import Answers, answers_of

PATIENCE_S = 300


@pytest.fixture(scope="module", params=[1, 2], ids=["one rank", "two ranks"])
def world(request: pytest.FixtureRequest) -> int:
    ranks: int = request.param
    found = torch.cuda.device_count()
    if found < ranks:
        pytest.skip(f"{ranks} ranks need {ranks} GPUs, and this machine has {found}")
    return ranks


@pytest.fixture(scope="module")
def answers(world: int, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """What each rank answered, by case."""
    folder = tmp_path_factory.mktemp(f"world-of-{world}")
    return answers_of(gpu_ranks, world, folder, "cuda", patience_s=PATIENCE_S)


@pytest.mark.parametrize(
    ("case", "tensors"),
    [
        ("copies", 486),
        ("views", 486),
        ("copies_from_small_slabs", 486),
        ("views_of_small_slabs", 486),
        ("a_filter", 123),
        ("one_after_the_other", 486),
    ],
)
def test_every_rank_has_what_safetensors_reads(answers: Answers, world: int, case: str, tensors: int) -> None:
    assert answers[case] == [f"{tensors} tensors are the same"] * world


def test_a_slab_is_not_used_again_before_the_rank_has_read_it(answers: Answers, world: int) -> None:
    assert answers["dropped_while_the_stream_lags"] == ["wrong: []"] * world


def test_no_rank_keeps_a_slab(answers: Answers, world: int) -> None:
    assert answers["nothing_is_left"] == ["0 slabs"] * world
