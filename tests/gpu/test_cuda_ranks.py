"""Ranks that load together over NCCL, each on a GPU of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import gpu_ranks
import pytest
import torch

PATIENCE_S = 300
Answers = dict[str, list[str]]

RUN = """
import sys
sys.path.insert(0, sys.argv[1])
if __name__ == "__main__":
    import gpu_ranks, torch.multiprocessing as multiprocessing
    from pathlib import Path
    world, folder, kind = int(sys.argv[2]), sys.argv[3], sys.argv[4]
    gpu_ranks.write_checkpoints(Path(folder))
    multiprocessing.start_processes(gpu_ranks.live_in, (world, folder, kind), world, start_method="spawn")
"""


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
    script = folder / "run.py"
    script.write_text(RUN)
    process = subprocess.Popen(
        [sys.executable, str(script), str(Path(gpu_ranks.__file__).parent), str(world), str(folder), "cuda"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        out, _ = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        out, _ = process.communicate()
        pytest.fail(f"the ranks hung: {out}")
    found = [folder / f"answers.{rank}.json" for rank in range(world)]
    by_rank = [json.loads(path.read_text()) if path.exists() else {} for path in found]
    if process.returncode != 0:
        pytest.fail(f"status {process.returncode}: {out}; {by_rank}")
    return {name: [each[name] for each in by_rank] for name in gpu_ranks.CASES}


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
