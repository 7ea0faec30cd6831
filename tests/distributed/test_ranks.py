"""Ranks that load together over gloo, on the host."""

from __future__ import annotations

import re

import pytest
import ranks
from rank_worlds import Answers, answers_of

PATIENCE_S = 240


@pytest.fixture(scope="module", params=[2, 3], ids=["two ranks", "three ranks"])
def answers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """What each rank answered, by case."""
    world: int = request.param
    folder = tmp_path_factory.mktemp(f"world-of-{world}")
    return answers_of(ranks, world, folder, patience_s=PATIENCE_S)


@pytest.mark.parametrize(
    ("case", "parts"),
    [("torch_copies", 1), ("torch_views", 1), ("numpy_copies", 1), ("numpy_views", 1), ("not_aligned", 3),
     ("smaller_than_the_world", 2), ("twice_from_one_file", 2), ("some_of_them", 1),
     ("one_name_at_a_time_is_local", 1), ("a_group_of_some", 1), ("a_group_of_one", 1)],
)  # fmt: skip
def test_every_rank_has_what_safetensors_reads(answers: Answers, case: str, parts: int) -> None:
    world = len(answers[case])
    assert answers[case] == [" ".join(["same"] * parts)] * world


@pytest.mark.parametrize("case", ["different_files", "different_filters"])
def test_ranks_that_want_different_tensors_are_all_told(answers: Answers, case: str) -> None:
    assert set(answers[case]) == {
        "RuntimeError: the ranks of process_group want different tensors: "
        "expected the same files and the same tensor_filter on each"
    }


def test_a_file_that_one_rank_lacks_is_an_error_on_all(answers: Answers) -> None:
    *others, last = answers["missing_on_the_last"]
    assert last.startswith("FileNotFoundError: [Errno 2] ")
    assert last.endswith("missing.safetensors'")
    rank = len(others)
    assert set(others) == {f"RuntimeError: rank {rank} failed to open the checkpoint; its own error says why"}


@pytest.mark.parametrize(
    ("case", "own", "doing"),
    [
        (
            "cut_on_one_before_the_load",
            r"expected to read [\d,]+ bytes at [\d,]+, read none: the file has 1,048,576 bytes, "
            r"and had [\d,]+ when it was opened",
            "to start loading",
        ),
        (
            "cut_on_one_in_the_middle",
            r"read [\d,]+ of [\d,]+ bytes at [\d,]+: the file ends there "
            r"\(it had [\d,]+ bytes when it was opened\)",
            "to load its part",
        ),
    ],
)
def test_a_file_cut_on_one_rank_is_an_error_on_all_and_nobody_hangs(
    answers: Answers, case: str, own: str, doing: str
) -> None:
    texts = [answer.split(" / ")[0] for answer in answers[case]]
    assert re.fullmatch(rf"OSError: .*{own}.*", texts[1]), texts[1]
    del texts[1]
    assert set(texts) == {f"RuntimeError: rank 1 failed {doing}; its own error says why"}
    assert {answer.split(" / ")[1] for answer in answers[case]} == {"same"}


def test_an_engine_that_does_not_start_on_one_rank_is_an_error_on_all(answers: Answers) -> None:
    *others, last = answers["no_engine_on_the_last"]
    assert last == "RuntimeError: no Java here"
    assert set(others) == {f"RuntimeError: rank {len(others)} failed to open the checkpoint; its own error says why"}


def test_a_file_that_all_close_says_so(answers: Answers) -> None:
    assert set(answers["closed_by_all"]) == {"SafetensorError: File is closed"}


def test_no_rank_keeps_a_slab(answers: Answers) -> None:
    assert set(answers["nothing_is_left"]) == {"0 slabs"}
