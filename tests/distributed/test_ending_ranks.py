"""A rank whose load raises, and whose process then ends, leaves no other waiting."""

from __future__ import annotations

import json

import ending_ranks
import pytest
from rank_worlds import answers_of

PATIENCE_S = 120
IN_TIME_S = 10.0


@pytest.mark.parametrize("world", [2, 4])
def test_the_others_raise_in_time(world: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp(f"ending-world-of-{world}")
    require_raised(answers_of(ending_ranks, world, folder, "cpu", patience_s=PATIENCE_S)["ended"])


def require_raised(answers: list[str]) -> None:
    """The last one told why it ends, or the others have seen that it is gone."""
    *others, last = [json.loads(answer) for answer in answers]
    assert last["error"].startswith("FileNotFoundError: [Errno 2] no such file or folder: ")
    told = f"OtherRankError: rank {len(others)} failed to open the checkpoint: {last['error']}"
    for other in others:
        assert other["error"] == told or other["error"].startswith(("RuntimeError: ", "DistBackendError: ")), other
        assert other["took_s"] < IN_TIME_S
