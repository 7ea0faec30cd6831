"""Ranks that load together over gloo, on the host."""

from __future__ import annotations

import pytest
import ranks
from rank_worlds import Answers, answers_of

PATIENCE_S = 240


@pytest.fixture(scope="module", params=[2, 3, 4, 8], ids=["two ranks", "three ranks", "four ranks", "eight ranks"])
def answers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """What each rank answered, by case."""
    world: int = request.param
    folder = tmp_path_factory.mktemp(f"world-of-{world}")
    return answers_of(ranks, world, folder, patience_s=PATIENCE_S)


@pytest.mark.parametrize(
    ("case", "parts"),
    [("torch_copies", 1), ("torch_views", 1), ("numpy_copies", 1), ("numpy_views", 1), ("not_aligned", 3),
     ("smaller_than_the_world", 2), ("twice_from_one_file", 2), ("some_of_them", 1),
     ("other_words_for_the_same_filter", 1), ("the_least_buffer_of_all", 1), ("one_name_at_a_time_is_local", 1),
     ("local_reads_while_others_load", 1), ("a_group_of_some", 1), ("a_group_of_one", 1)],
)  # fmt: skip
def test_every_rank_has_what_safetensors_reads(answers: Answers, case: str, parts: int) -> None:
    world = len(answers[case])
    assert answers[case] == [" ".join(["same"] * parts)] * world


def test_no_rank_keeps_a_slab(answers: Answers) -> None:
    assert set(answers["nothing_is_left"]) == {"0 slabs"}
