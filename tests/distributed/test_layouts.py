"""Groups of all shapes: every rank of each has the same tensors in the same order, and other groups do not matter."""

from __future__ import annotations

import json

import layout_ranks
import pytest
from rank_worlds import Answers, answers_of

PATIENCE_S = 240
EXAMPLES = {2: 80, 3: 80, 4: 60, 8: 60}


@pytest.fixture(scope="module", params=EXAMPLES, ids=lambda world: f"{world} ranks")
def world(request: pytest.FixtureRequest) -> int:
    found: int = request.param
    return found


@pytest.fixture(scope="module")
def answers(world: int, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """What each rank answered, by case; the examples that it went through, as one more."""
    folder = tmp_path_factory.mktemp(f"layouts-of-{world}")
    chosen = layout_ranks.write_examples(folder, world, EXAMPLES[world])
    answers = answers_of(layout_ranks, world, folder, patience_s=PATIENCE_S)
    return {**answers, "chosen": [json.dumps(chosen)]}


def test_any_layout_loads_any_checkpoint(answers: Answers, world: int) -> None:
    chosen = json.loads(answers["chosen"][0])
    by_rank = [json.loads(text) for text in answers["chosen_examples"]]
    assert [len(found) for found in by_rank] == [len(chosen)] * world
    wrong = [
        (example, rank, found[number])
        for number, example in enumerate(chosen)
        for rank, found in enumerate(by_rank)
        if found[number] != "same"
    ]
    assert wrong == []


def test_the_examples_are_of_all_kinds(answers: Answers, world: int) -> None:
    chosen = json.loads(answers["chosen"][0])
    assert len(chosen) == EXAMPLES[world]
    assert {example["framework"] for example in chosen} == {"pt", "np"}
    assert {example["copy"] for example in chosen} == {True, False}
    assert any(not example["tensors"] for example in chosen)
    assert any(0 in shape for example in chosen for _, shape in example["tensors"])
    assert len({len(example["layout"]) for example in chosen}) > 1


@pytest.mark.parametrize("case", ["parallel_dimensions", "two_groups_of_a_rank_in_turns"])
def test_groups_load_at_the_same_time(answers: Answers, world: int, case: str) -> None:
    assert answers[case] == ["same"] * world


def test_no_rank_keeps_a_slab(answers: Answers, world: int) -> None:
    assert answers["nothing_is_left"] == ["0 slabs"] * world
