"""Groups that span machines: who reads what. The check of docs/distributed.md, on 4 and 8 ranks of one machine that say
that they are on several."""

from __future__ import annotations

import json

import node_ranks
import pytest
from rank_worlds import Answers, answers_of

PATIENCE_S = 240
CHECKPOINT_BYTES = node_ranks.TENSORS * node_ranks.TENSOR_BYTES
# Reads are widened to pages, a few at the ends of every part.
WIDENED = 1.05


@pytest.fixture(scope="module", params=[4, 8], ids=["four ranks", "eight ranks"])
def answers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """What each rank answered, by case."""
    world: int = request.param
    return answers_of(node_ranks, world, tmp_path_factory.mktemp(f"nodes-{world}"), patience_s=PATIENCE_S)


def read_by(answers: list[str]) -> dict[int, list[int]]:
    """Bytes that the ranks of each node have read; all tensors have to be right."""
    found: dict[int, list[int]] = {}
    for answer in map(json.loads, answers):
        assert answer["same"], answers
        found.setdefault(answer["node"], []).append(answer["read"])
    return found


def is_once(read: int) -> bool:
    """Whether so many bytes are the checkpoint's, read once."""
    return CHECKPOINT_BYTES <= read <= WIDENED * CHECKPOINT_BYTES


def test_once_per_group_the_file_system_gives_each_byte_once(answers: Answers) -> None:
    nodes = read_by(answers["once_per_group"])
    assert len(nodes) == 2
    assert is_once(sum(map(sum, nodes.values()))), nodes


@pytest.mark.parametrize(
    "case", ["once_per_node_of_two", "once_per_node_of_unequal_ones", "once_per_node_with_ranks_in_turns"]
)
def test_once_per_node_it_gives_each_byte_once_to_each_node(answers: Answers, case: str) -> None:
    nodes = read_by(answers[case])
    assert len(nodes) == 2
    for reads in nodes.values():
        assert is_once(sum(reads)), nodes
        assert max(reads) <= WIDENED * CHECKPOINT_BYTES / len(reads), nodes


def test_one_node_is_a_group_as_any(answers: Answers) -> None:
    (reads,) = read_by(answers["once_per_node_on_a_single_one"]).values()
    assert is_once(sum(reads)), reads


def test_ranks_that_would_read_otherwise_are_all_told(answers: Answers) -> None:
    assert set(answers["different_words"]) == {
        "RuntimeError: rank 1 of process_group reads otherwise than rank 0: expected read_once_per='group', "
        "found read_once_per='node'"
    }


def test_a_failure_on_one_node_is_told_on_all(answers: Answers) -> None:
    *others, last = (answer.split(" / ") for answer in answers["a_file_cut_on_another_node"])
    assert last[0].startswith("OSError: FILE: ")
    told = f"OtherRankError: rank {len(others)} failed to load its part: OSError: "
    assert all(text.startswith(told) and "own." in text for text, _ in others), others
    assert all(json.loads(after)["same"] for _, after in [*others, last])
