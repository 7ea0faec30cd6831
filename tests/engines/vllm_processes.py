"""What the processes of test_vllm_processes.py do: a parent as vLLM's engine is one, and its workers.

The parent imports vLLM, torch and us, opens no checkpoint, and starts workers by vLLM's own context. Importing
vLLM takes longer than all that they do, so this one parent serves all of them.

    python vllm_processes.py FOLDER MINILM

writes FOLDER/answers.json: a worker's name to what it found, its exit status and its standard error.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from samples import write
from vllm.distributed.parallel_state import get_world_group
from vllm.model_executor.model_loader.ep_weight_filter import compute_local_expert_ids
from vllm.utils.system_utils import get_mp_context
from vllm_engine import (
    any_bits,
    bert,
    embed,
    prepare_bert,
    seen,
    slabs_held,
    take_the_host_for_cuda,
    watch,
    weights,
    world,
)

PATIENCE_S = 120


def write_mixture(folder: Path) -> None:
    """Two files of 3 MB: eight experts, and as much that is none."""
    folder.mkdir()
    for file in (0, 1):
        tensors = {f"l{file}.experts.{n}.up.weight": any_bits("BF16", [256, 256], n + file) for n in range(8)}
        tensors |= {f"l{file}.dense{n}.weight": any_bits("F32", [256, 256], n + 90 + file) for n in range(8)}
        write(folder / f"model-{file}.safetensors", tensors)


def started() -> bool:
    """Whether there is a JVM in this process."""
    return "libjvm.so" in Path("/proc/self/maps").read_text()


def culprit() -> None:
    ctypes.string_at(0)


# ------------------------------------------------------------------------------------ lone workers


def load(folder: Path) -> str:
    take_the_host_for_cuda(setattr)
    openings = watch(setattr)
    before = started()
    mixture = folder / "mixture"
    equal = seen(weights(mixture, "instanttensor")) == seen(weights(mixture, "safetensors"))
    return f"java before: {before}, after: {started()}, loads: {len(openings)}, equal: {equal}"


def crashes(folder: Path, minilm: Path, answer: Callable[[str], None]) -> None:
    """With faulthandler from before, from the parent where there is a fork; ends by a real fault."""
    faulthandler.enable()
    answer(load(folder))
    culprit()


def crashes_later(folder: Path, minilm: Path, answer: Callable[[str], None]) -> None:
    """With faulthandler from after the load, as vLLM's watchdog enables it."""
    faulthandler.disable()
    answer(load(folder))
    faulthandler.enable()
    culprit()


def crashes_after_another(folder: Path, minilm: Path, answer: Callable[[str], None]) -> None:
    """The same, and then another load."""
    faulthandler.disable()
    load(folder)
    faulthandler.enable()
    answer(load(folder))
    culprit()


# ------------------------------------------------------------------------------------------- ranks


def bytes_in(tensors: list[tuple[str, torch.Tensor]]) -> int:
    return sum(tensor.nbytes for _, tensor in tensors)


def rank_0(folder: Path, minilm: Path, answer: Callable[[str], None]) -> None:
    answer(json.dumps(live(0, folder, minilm)))


def rank_1(folder: Path, minilm: Path, answer: Callable[[str], None]) -> None:
    answer(json.dumps(live(1, folder, minilm)))


def live(rank: int, folder: Path, minilm: Path) -> dict[str, Any]:
    """What one of two ranks finds, case by case."""
    torch.set_num_threads(1)
    take_the_host_for_cuda(setattr)
    prepare_bert(setattr)
    openings = watch(setattr)
    mixture = folder / "mixture"
    found: dict[str, Any] = {}
    with world(folder, rank, 2):
        expected = seen(weights(mixture, "safetensors"))

        tensors = list(weights(mixture, "instanttensor"))
        opening = openings.pop()
        found["equal"] = seen(tensors) == expected
        found["by vLLM's group"] = opening.options["process_group"] is get_world_group().device_group
        found["read"] = opening.stats["read_bytes"] / bytes_in(tensors)
        del tensors

        # What a rank of expert parallelism takes: each other tensors, so each on its own.
        ids = compute_local_expert_ids(8, 2, rank)
        mine = list(weights(mixture, "instanttensor", ids))
        found["experts equal"] = seen(mine) == seen(weights(mixture, "safetensors", ids))
        found["experts"] = sorted({name.split(".")[2] for name, _ in mine if ".experts." in name})
        opening = openings.pop()
        found["experts' group"] = opening.options["process_group"]
        found["experts' read"] = opening.stats["read_bytes"] / bytes_in(mine)
        del mine

        # A collective is left by all ranks at the same place or by none.
        iterator = weights(mixture, "instanttensor")
        taken = [next(iterator) for _ in range(3)]
        del iterator
        found["abandoned"] = set(seen(taken)) < set(expected)
        del taken
        dist.barrier()
        found["equal again"] = seen(weights(mixture, "instanttensor")) == expected
        found["slabs"] = slabs_held()

        ours, theirs = bert(minilm, "instanttensor", 2), bert(minilm, "safetensors", 2)
        found["model equal"] = seen(ours.named_parameters()) == seen(theirs.named_parameters())
        found["heads"] = ours.model.encoder.layer[0].attention.self.num_heads
        found["forward equal"] = torch.equal(embed(ours), embed(theirs))
        dist.barrier()
    return found


# ------------------------------------------------------------------------------------------ parent

Work = Callable[[Path, Path, Callable[[str], None]], None]
# Name: what to do, how to start; those of a row run together.
ROWS: list[dict[str, tuple[Work, str]]] = [
    {
        "spawned": (crashes, "spawn"),
        "forked": (crashes, "fork"),
        "enabled later": (crashes_later, "fork"),
        "loaded again": (crashes_after_another, "fork"),
    },
    {"rank 0": (rank_0, "fork"), "rank 1": (rank_1, "fork")},
]


def work(name: str, row: int, folder: Path, minilm: Path) -> None:
    """A worker, from its start: its standard error goes to a file."""
    # A fault's core, and Java's report of it, would be of no use.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    own = folder / name
    own.mkdir()
    os.chdir(own)
    descriptor = os.open("stderr", os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 2)
    try:
        ROWS[row][name][0](folder, minilm, (own / "answer").write_text)
    except BaseException:
        (own / "answer").write_text(traceback.format_exc())


def main(folder: Path, minilm: Path) -> None:
    faulthandler.enable()
    write_mixture(folder / "mixture")
    answers = {}
    for number, row in enumerate(ROWS):
        workers = {}
        for name, (_, method) in row.items():
            os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = method
            workers[name] = get_mp_context().Process(target=work, args=(name, number, folder, minilm))
            assert type(workers[name]).__name__ == f"{method.capitalize()}Process"
            workers[name].start()
        deadline = time.monotonic() + PATIENCE_S
        for name, worker in workers.items():
            worker.join(max(0, deadline - time.monotonic()))
            if worker.is_alive():
                worker.kill()
                worker.join()
            answers[name] = {
                "found": (folder / name / "answer").read_text() if (folder / name / "answer").exists() else "nothing",
                "status": worker.exitcode,
                "stderr": (folder / name / "stderr").read_text(),
            }
    assert not started()
    (folder / "answers.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
