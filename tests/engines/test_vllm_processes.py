"""Workers, started as vLLM starts them, and two ranks that load together."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from sessions import outcome

HERE = Path(__file__).parent
PATIENCE_S = 600


@pytest.fixture(scope="module")
def answers(engines: Path, minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """By worker: what it found, its exit status, its standard error."""
    folder = tmp_path_factory.mktemp("processes")
    done = outcome(
        [sys.executable, str(HERE / "vllm_processes.py"), str(folder), str(minilm)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (engines / "vllm", HERE.parent, HERE)))},
        patience_s=PATIENCE_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answers: dict[str, Any] = json.loads((folder / "answers.json").read_text())
    return answers


@pytest.mark.parametrize(
    ("worker", "found"),
    [
        ("forked", "java before: False, after: True"),
        ("spawned", "java before: False, after: True"),
        ("enabled later", "java before: False, after: True"),
        ("loaded again", "java before: True, after: True"),
    ],
)
def test_faulthandler_is_silent_while_a_worker_loads_and_tells_of_a_real_fault(
    answers: dict[str, Any], worker: str, found: str
) -> None:
    answer = answers[worker]
    assert answer["found"] == f"{found}, loads: 1, equal: True", answer
    # By the fault itself, or by Java's abort() where its handlers lie above.
    assert answer["status"] in (-signal.SIGSEGV, -signal.SIGABRT), answer
    first, *_ = answer["stderr"].split("Fatal Python error: ")[1:] or [""]
    assert "in culprit" in first, answer


@pytest.mark.parametrize("rank", [0, 1])
def test_two_ranks_load_together(answers: dict[str, Any], rank: int) -> None:
    answer = answers[f"rank {rank}"]
    assert answer["status"] == 0, answer
    assert answer["found"].startswith("{"), answer
    found = json.loads(answer["found"])
    # Each reads its half, and of experts its own.
    assert found.pop("read") == pytest.approx(0.5, abs=0.1)
    assert found.pop("experts' read") == pytest.approx(1, abs=0.1)
    assert found == {
        "equal": True,
        "by vLLM's group": True,
        "experts equal": True,
        "experts": [str(4 * rank + n) for n in range(4)],
        "experts' group": None,
        "abandoned": True,
        "equal again": True,
        "slabs": 0,
        "model equal": True,
        "heads": 6,
        "forward equal": True,
    }
