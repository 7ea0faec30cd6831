"""One rank fails, over NCCL: the cases of tests/distributed, some of each kind, with a GPU for each of two ranks."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from rank_worlds import Answers, answers_of

sys.path.append(str(Path(__file__).resolve().parents[1] / "distributed"))

import ending_ranks  # noqa: E402
import failing_ranks  # noqa: E402
import node_ranks  # noqa: E402
from test_ending_ranks import require_raised  # noqa: E402
from test_failing_ranks import HANDING_OUT, LEFT, LOADING, Outcome, require_told  # noqa: E402

RANKS = 2
PATIENCE_S = 300
TOLD_HERE = [
    ("a_missing_file", "last"),
    ("no_memory_for_any_slab", "first"),
    ("a_file_cut_in_the_middle", "last"),
    ("interrupted_after_starting", "last"),
]


@pytest.fixture(scope="module", autouse=True)
def a_gpu_for_each() -> None:
    found = torch.cuda.device_count()
    if found < RANKS:
        pytest.skip(f"{RANKS} ranks need {RANKS} GPUs, and this machine has {found}")


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """What each rank answered, by case."""
    names = [f"{case} on the {which}" for case, which in TOLD_HERE]
    names += ["a_break on the first", "interrupted_while_others_load on the last"]
    folder = tmp_path_factory.mktemp("failing-world-on-gpus")
    return answers_of(failing_ranks, RANKS, folder, "cuda", *names, patience_s=PATIENCE_S)


@pytest.mark.parametrize(("case", "which"), TOLD_HERE)
def test_what_fails_on_one_rank_is_that_error_on_the_other(answers: Answers, case: str, which: str) -> None:
    require_told(answers, case, which)


def test_a_rank_that_leaves_early_is_an_error_on_the_other(answers: Answers) -> None:
    outcome = Outcome(answers, "a_break", "first")
    assert outcome.own == "no error"
    assert outcome.others == {f"OtherRankError: rank 0 {LEFT}"}
    outcome.require_good_end()


def test_a_rank_interrupted_while_it_waits_is_an_error_on_the_other(answers: Answers) -> None:
    outcome = Outcome(answers, "interrupted_while_others_load", "last")
    assert outcome.own == "KeyboardInterrupt: "
    (heard,) = outcome.others
    told = {f"OtherRankError: rank 1 {what}: KeyboardInterrupt: " for what in (LOADING, HANDING_OUT)}
    assert heard in told | {f"OtherRankError: rank 1 {LEFT}"}
    outcome.require_good_end()


def test_a_failure_on_one_node_is_told_on_the_other(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("nodes-on-gpus")
    found = answers_of(
        node_ranks, RANKS, folder, "cuda", "a_file_cut_on_another_node", patience_s=PATIENCE_S
    )["a_file_cut_on_another_node"]  # fmt: skip
    (told, after), (own, after_own) = (answer.split(" / ") for answer in found)
    assert own.startswith("OSError: FILE: ")
    assert told.startswith("OtherRankError: rank 1 failed to load its part: OSError: ")
    assert [json.loads(text)["same"] for text in (after, after_own)] == [True, True]


def test_a_rank_that_raises_and_ends_leaves_no_other_waiting(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("ending-world-on-gpus")
    require_raised(answers_of(ending_ranks, RANKS, folder, "cuda", patience_s=PATIENCE_S)["ended"])
