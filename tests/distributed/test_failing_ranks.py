"""One rank fails, and no other waits for it: each raises in time, with that rank's number and its error."""

from __future__ import annotations

import json
import re
from typing import Any

import failing_ranks
import pytest
from rank_worlds import Answers, answers_of

PATIENCE_S = 240
# The bar of every failure.
IN_TIME_S = 10.0

FILE = r"/\S+\.safetensors"
OPENING, SIZING = "failed to open the checkpoint", "failed to size its slabs"
STARTING, LOADING = "failed to start loading", "failed to load its part"
HANDING_OUT = "failed to hand out its tensors"
LEFT = "left tensors() before its end"

# What the failing rank raises, and what it was doing by what it tells the others.
TOLD = {
    "an_argument": ("ValueError: buffer_size=-1: expected at least 1", OPENING),
    "a_framework": (r"ValueError: framework='jax': expected one of 'pt' \(torch\), 'np' \(numpy\)", OPENING),
    "a_pattern": (
        r"ValueError: tensor_filter: '\(' is no regular expression: "
        r"missing \), unterminated subpattern at position 0",
        OPENING,
    ),
    "a_device": (
        r"ValueError: device='tpu': expected 'cpu', 'cuda', 'cuda:N', N or a torch\.device of these", OPENING
    ),
    "a_missing_file": (rf"FileNotFoundError: \[Errno 2\] no such file or folder: '{FILE}'", OPENING),
    "half_a_file": (
        rf"SafetensorError: Error while deserializing header: MetadataIncompleteBuffer: {FILE}: expected 8,000,000 "
        r"bytes of data behind the header, which ends at 2,832, found 7,999,999: the file was cut short "
        r"\(it has 8,002,831 bytes\)",
        OPENING,
    ),
    "a_warning_as_an_error": ("RuntimeWarning: concurrency=1000: 256 is the most here, and is taken", OPENING),
    "no_memory_for_any_slab": ("OutOfMemoryError: 0 bytes were free", SIZING),
    "closed_before_the_first": ("SafetensorError: File is closed", SIZING),
    "a_file_cut_before_the_load": (
        rf"OSError: {FILE}: expected to read [\d,]+ bytes at [\d,]+, read none: the file has 1,048,576 bytes, "
        "and had 8,002,832 when it was opened",
        STARTING,
    ),
    "a_warning_of_a_large_tensor": (
        r"RuntimeWarning: larger than buffer_size \(150,000 bytes\), so each gets storage of its own: "
        r"'t0' \(200,000 bytes\)",
        STARTING,
    ),
    "no_progress_bar": (r"ModuleNotFoundError: import of tqdm\.auto halted; None in sys\.modules", STARTING),
    "a_file_cut_in_the_middle": (
        rf"OSError: {FILE}: read [\d,]+ of [\d,]+ bytes at [\d,]+: the file ends there "
        r"\(it had 8,002,832 bytes when it was opened\)",
        LOADING,
    ),
    "no_memory_for_a_slab": (
        # The more for three ranks: their parts of 512 bytes do not divide it.
        r"OutOfMemoryError: not enough memory on cpu: needed (?:536870912|536871936) bytes, "
        r"\d+ of \d+ bytes were free",
        LOADING,
    ),
    "no_view": ("MemoryError: no view", HANDING_OUT),
    "a_callback_that_raises": ("ZeroDivisionError: at more than half of 8000000", LOADING),
    "interrupted_while_others_open": ("KeyboardInterrupt: ", OPENING),
    "interrupted_while_others_start": ("KeyboardInterrupt: ", STARTING),
    "interrupted_after_opening": ("KeyboardInterrupt: ", OPENING),
    "interrupted_after_sizing": ("KeyboardInterrupt: ", STARTING),
    "interrupted_after_starting": ("KeyboardInterrupt: ", LOADING),
}  # fmt: skip

# What the failing rank raises that leaves; the others hear that it left.
LEAVING = {
    "a_break": "no error",
    "a_break_at_the_first": "no error",
    "a_generator_closed": "no error",
    "an_error_of_the_loop": "ZeroDivisionError: in the loop",
    "a_file_closed_in_the_loop": "SafetensorError: File is closed",
    "a_file_closed_by_another_thread": "SafetensorError: File is closed",
    "interrupted_in_the_loop": "KeyboardInterrupt: ",
}

# It was waiting for the others, or had just stopped: all that it may have been doing is good.
WAITING = {
    "a_file_closed_while_it_waits": ("SafetensorError: File is closed", (LOADING, HANDING_OUT)),
    "interrupted_while_others_load": ("KeyboardInterrupt: ", (LOADING, HANDING_OUT)),
}

OF_EIGHT = {
    "a_missing_file on the last": OPENING,
    "no_memory_for_any_slab on the first": SIZING,
    "a_file_cut_before_the_load on the last": STARTING,
    "a_file_cut_in_the_middle on the first": LOADING,
    "no_view on the last": HANDING_OUT,
    "a_break on the first": LEFT,
}


@pytest.fixture(scope="module", params=[2, 4], ids=["two ranks", "four ranks"])
def answers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """What each rank answered, by case."""
    world: int = request.param
    folder = tmp_path_factory.mktemp(f"failing-world-of-{world}")
    return answers_of(failing_ranks, world, folder, patience_s=PATIENCE_S)


@pytest.fixture(scope="module")
def answers_of_eight(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """The same of more ranks, which take longer, for one of each kind of failure."""
    folder = tmp_path_factory.mktemp("failing-world-of-8")
    return answers_of(failing_ranks, 8, folder, "cpu", *OF_EIGHT, patience_s=PATIENCE_S)


class Outcome:
    """How a failure ended on all ranks."""

    def __init__(self, answers: Answers, case: str, which: str) -> None:
        texts = answers[f"{case} on the {which}"]
        self.ranks: list[dict[str, Any]] = [json.loads(text) for text in texts]
        self.culprit = 0 if which == "first" else len(texts) - 1
        self.own: str = self.ranks[self.culprit]["error"]
        self.others = {rank["error"] for n, rank in enumerate(self.ranks) if n != self.culprit}

    def require_good_end(self) -> None:
        """All were told in time, and the group is as good as before."""
        require_good_end(self.ranks)


def require_told(answers: Answers, case: str, which: str) -> None:
    """What failed on one rank is its own error there, and on all others too."""
    own, what = TOLD[case]
    outcome = Outcome(answers, case, which)
    assert re.fullmatch(own, outcome.own), outcome.own
    assert outcome.others == {f"OtherRankError: rank {outcome.culprit} {what}: {outcome.own}"}
    outcome.require_good_end()


def require_good_end(ranks: list[dict[str, Any]]) -> None:
    assert max(rank["took_s"] for rank in ranks) < IN_TIME_S
    assert [(rank["afterwards"], rank["slabs"]) for rank in ranks] == [("same", 0)] * len(ranks)


@pytest.mark.parametrize("which", ["first", "last"])
@pytest.mark.parametrize("case", TOLD)
def test_what_fails_on_one_rank_is_that_error_on_all(answers: Answers, case: str, which: str) -> None:
    require_told(answers, case, which)


def test_an_engine_that_does_not_start_on_one_rank_is_an_error_on_all(answers: Answers) -> None:
    outcome = Outcome(answers, "no_engine", "last")
    own = "INSTANTTENSOR_JAVA_HOME=/nowhere is no Java home: it has no readable file /nowhere/release"
    assert outcome.own == f"RuntimeError: {own}"
    assert outcome.others == {f"OtherRankError: rank {outcome.culprit} {OPENING}: {outcome.own}"}
    outcome.require_good_end()


@pytest.mark.parametrize("which", ["first", "last"])
@pytest.mark.parametrize("case", LEAVING)
def test_a_rank_that_leaves_early_is_an_error_on_all_others(answers: Answers, case: str, which: str) -> None:
    outcome = Outcome(answers, case, which)
    assert outcome.own == LEAVING[case]
    assert outcome.others == {f"OtherRankError: rank {outcome.culprit} {LEFT}"}
    outcome.require_good_end()


@pytest.mark.parametrize("which", ["first", "last"])
@pytest.mark.parametrize("case", WAITING)
def test_a_rank_stopped_while_it_waits_is_an_error_on_all_others(answers: Answers, case: str, which: str) -> None:
    own, doing = WAITING[case]
    outcome = Outcome(answers, case, which)
    assert outcome.own == own
    assert len(outcome.others) == 1
    assert outcome.others < {f"OtherRankError: rank {outcome.culprit} {what}: {own}" for what in doing} | {
        f"OtherRankError: rank {outcome.culprit} {LEFT}"
    }
    outcome.require_good_end()


@pytest.mark.parametrize("which", ["first", "last"])
@pytest.mark.parametrize(
    ("case", "expected", "found"),
    [("other_metadata", "40 tensors in 1 files of 8,002,832 bytes", "40 tensors in 1 files of 8,002,864 bytes"),
     ("another_tensor", "40 tensors in 1 files of 8,002,832 bytes", "41 tensors in 1 files of 8,002,900 bytes"),
     ("other_types", "40 tensors in 1 files of 8,002,832 bytes", "40 tensors in 1 files of 8,002,832 bytes")],
)  # fmt: skip
def test_ranks_with_different_files_are_all_told_how_they_differ(
    answers: Answers, case: str, expected: str, found: str, which: str
) -> None:
    outcome = Outcome(answers, case, which)
    if which == "first":
        expected, found = found, expected
    digest = r" \(names, types, shapes and sizes: ([0-9a-f]{16})\)"
    (text,) = {outcome.own} | outcome.others
    # The first that differs from rank 0.
    number = 1 if which == "first" else outcome.culprit
    told = re.fullmatch(
        f"RuntimeError: rank {number} of process_group opened other files than rank 0: "
        f"expected {expected}{digest}, found {found}{digest}",
        text,
    )
    assert told, text
    assert told[1] != told[2]
    outcome.require_good_end()


@pytest.mark.parametrize("which", ["first", "last"])
@pytest.mark.parametrize(
    ("case", "expected", "found"),
    [("another_filter", "tensor_filter=['t?', 't1?'] (glob), which selects 20 of 40",
      "tensor_filter=['t1*'] (glob), which selects 11 of 40"),
     ("a_filter_on_one", "no tensor_filter, which selects 40 of 40",
      "tensor_filter=['t?'] (glob), which selects 10 of 40")],
)  # fmt: skip
def test_ranks_with_different_filters_are_all_told_how_they_differ(
    answers: Answers, case: str, expected: str, found: str, which: str
) -> None:
    outcome = Outcome(answers, case, which)
    if which == "first":
        expected, found = found, expected
    number = 1 if which == "first" else outcome.culprit
    assert {outcome.own} | outcome.others == {
        f"RuntimeError: rank {number} of process_group wants other tensors than rank 0: "
        f"expected {expected}, found {found}"
    }
    outcome.require_good_end()


@pytest.mark.parametrize("which", ["first", "last"])
def test_ranks_with_different_types_of_device_are_all_told(answers: Answers, which: str) -> None:
    outcome = Outcome(answers, "another_type_of_device", which)
    number, expected, found = (1, "cuda", "cpu") if which == "first" else (outcome.culprit, "cpu", "cuda")
    assert {outcome.own} | outcome.others == {
        f"RuntimeError: rank {number} of process_group loads to another type of device than rank 0: "
        f"expected {expected}, found {found}"
    }
    outcome.require_good_end()


@pytest.mark.parametrize("which", ["first", "last"])
@pytest.mark.parametrize(
    ("case", "own", "heard"),
    [("an_error_without_a_text", "Untold: ", "Untold"),
     ("an_error_that_is_no_utf_8", "ValueError: a file called \udcff", r"ValueError: a file called \udcff")],
)  # fmt: skip
def test_an_error_that_cannot_be_said_as_it_is_is_told_as_far_as_it_can_be(
    answers: Answers, case: str, own: str, heard: str, which: str
) -> None:
    outcome = Outcome(answers, case, which)
    assert outcome.own == own
    assert outcome.others == {f"OtherRankError: rank {outcome.culprit} {LOADING}: {heard}"}
    outcome.require_good_end()


@pytest.mark.parametrize("which", ["first", "last"])
def test_where_a_gather_fails_on_one_rank_the_others_leave_it_by_the_group_s_time_out(
    answers: Answers, which: str
) -> None:
    outcome = Outcome(answers, "a_gather_that_fails", which)
    assert outcome.own == "MemoryError: no gather"
    # In torch's words.
    assert all(text.startswith("RuntimeError: ") for text in outcome.others), outcome.others
    outcome.require_good_end()


@pytest.mark.parametrize("case", OF_EIGHT)
def test_seven_others_are_told_too(answers_of_eight: Answers, case: str) -> None:
    outcome = Outcome(answers_of_eight, *case.split(" on the "))
    ending = "" if OF_EIGHT[case] == LEFT else f": {outcome.own}"
    assert outcome.others == {f"OtherRankError: rank {outcome.culprit} {OF_EIGHT[case]}{ending}"}
    outcome.require_good_end()


def test_a_filter_of_any_length_is_compared(answers: Answers) -> None:
    outcome = Outcome(answers, "a_long_filter", "last")
    (text,) = {outcome.own} | outcome.others
    told = re.fullmatch(
        rf"RuntimeError: rank {outcome.culprit} of process_group wants other tensors than rank 0: "
        r"expected tensor_filter=\['t1\?', '(?:\\\\\"€)+\\*\"?, which selects 10 of 40, "
        r"found tensor_filter=\['t\?', '(?:\\\\\"€)+\\*\"?, which selects 10 of 40",
        text,
    )
    assert told, text
    outcome.require_good_end()


def test_ctrl_c_at_any_moment_leaves_nobody_waiting(answers: Answers) -> None:
    by_rank = [json.loads(text) for text in answers["interrupted_at_any_moment"]]
    heard = set()
    for number, ranks in enumerate(zip(*by_rank)):
        culprit = number % len(ranks)
        assert ranks[culprit]["error"] == "KeyboardInterrupt: "
        others = {rank["error"] for n, rank in enumerate(ranks) if n != culprit}
        assert len(others) == 1
        heard |= {text.replace(f"rank {culprit} ", "RANK ") for text in others}
        require_good_end(list(ranks))
    assert heard <= {
        "no error",
        f"OtherRankError: RANK {LEFT}",
        f"OtherRankError: RANK {LOADING}: KeyboardInterrupt: ",
        f"OtherRankError: RANK {HANDING_OUT}: KeyboardInterrupt: ",
    }
    # Some of them came in the middle.
    assert heard - {"no error"}


def test_a_failure_in_a_subgroup_names_both_numbers_and_is_nobody_elses(answers: Answers) -> None:
    *others, told, own = answers["failure_in_a_subgroup"]
    world = len(others) + 2
    assert set(others) <= {"same"}
    error, afterwards = own.split(" / ")
    assert re.fullmatch(rf"FileNotFoundError: \[Errno 2\] no such file or folder: '{FILE}'", error)
    assert afterwards == "same"
    name = "rank 1" if world == 2 else f"rank 1 (of all: {world - 1})"
    assert told == f"OtherRankError: {name} {OPENING}: {error} / same"


def test_a_rank_outside_of_the_group_is_refused(answers: Answers) -> None:
    first, *others = answers["not_in_the_group"]
    assert first == "no error"
    assert others == [f"ValueError: process_group: rank {n} of all is not in it" for n in range(1, len(others) + 1)]
