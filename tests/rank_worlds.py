"""Worlds of ranks that load together: what starts them, and what each of them goes through.

A world is started once and goes through all of its cases, since starting ranks takes longer than
anything they do. A case answers a text, which the test compares.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from sessions import outcome

Case = TypeVar("Case", bound=Callable[..., str])
# What each rank answered, by case.
Answers = dict[str, list[str]]

RUN = """
import sys
sys.path[:0] = sys.argv[1:3]
if __name__ == "__main__":
    import importlib, multiprocessing
    from pathlib import Path
    # What takes long to import is imported once, before the ranks part ways; nothing of it starts a thread.
    multiprocessing.set_forkserver_preload(["torch", "numpy", "safetensors.torch"])
    from torch.multiprocessing import start_processes
    ranks, world, folder, more = importlib.import_module(sys.argv[3]), int(sys.argv[4]), sys.argv[5], sys.argv[6:]
    ranks.write_checkpoints(Path(folder))
    start_processes(ranks.live_in, (world, folder, *more), world, start_method="forkserver")
"""


class Cases(dict[str, Callable[..., str]]):
    """Cases by name, in the order in which they were written down; adds the function that it decorates."""

    def __call__(self, function: Case) -> Case:
        self[function.__name__] = function
        return function


def meet(
    backend: str, rank: int, world: int, folder: str, *, patience_s: int, device_id: torch.device | None = None
) -> None:
    """A rank joins its world. No collective waits longer for one that does not come: a hang fails instead."""
    dist.init_process_group(
        backend,
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=patience_s),
        device_id=device_id,
    )


def meet_on(kind: str, rank: int, world: int, folder: str, *, patience_s: int) -> torch.device:
    """The same over NCCL with kind "cuda", each rank on a GPU of its own; over gloo, on the host, with any other.

    Returns
    -------
    torch.device
        Where this rank's tensors go.
    """
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    os.environ["NCCL_SOCKET_IFNAME"] = "lo"
    if kind != "cuda":
        meet("gloo", rank, world, folder, patience_s=patience_s)
        return torch.device("cpu")
    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    meet("nccl", rank, world, folder, patience_s=patience_s, device_id=device)
    return device


def go_through(cases: Cases, rank: int, folder: str, *arguments: Any) -> None:
    """A rank's life: the cases one after the other, and what came of them in a file."""
    answers = {}
    for name, function in cases.items():
        try:
            answers[name] = function(*arguments)
        except Exception:
            answers[name] = traceback.format_exc()
        Path(folder, f"answers.{rank}.json").write_text(json.dumps(answers))
        dist.barrier()
    dist.destroy_process_group()


def error(
    action: Callable[[], Any], kind: type[BaseException] = Exception, said: Callable[[BaseException], str] = str
) -> str:
    """The type of what an action raises, if it is of a kind, and its text."""
    try:
        action()
    except kind as e:
        return f"{type(e).__name__}: {said(e)}"
    return "no error"


def answers_of(ranks: ModuleType, world: int, folder: Path, *more: str, patience_s: int) -> Answers:
    """Starts a world and waits for its end.

    Parameters
    ----------
    ranks : module
        With `write_checkpoints(folder)`, called before any rank starts, and `live_in(rank, world, folder, *more)`,
        what each rank does.
    """
    script = folder / "run.py"
    script.write_text(RUN)
    homes = [str(Path(str(file)).parent) for file in (ranks.__file__, __file__)]
    command = [sys.executable, str(script), *homes, ranks.__name__, str(world), str(folder), *more]
    done = outcome(command, patience_s=patience_s)
    found = [folder / f"answers.{rank}.json" for rank in range(world)]
    by_rank = [json.loads(path.read_text()) if path.exists() else {} for path in found]
    if done.returncode != 0:
        raise AssertionError(f"status {done.returncode}: {done.stdout}{done.stderr}; {by_rank}")
    return {name: [each[name] for each in by_rank] for name in by_rank[0]}
