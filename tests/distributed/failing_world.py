"""What the ranks of test_failing_ranks.py have in common: one of them fails, and all tell how they came out of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ranks
import torch
import torch.distributed as dist
from instanttensor import safe_open
from rank_worlds import Cases, error
from ranks import KIB

PATIENCE_S = 60
# Of the long checkpoint's slabs: four of its 40 tensors each.
SLAB_BYTES = 900 * KIB

class Here(NamedTuple):
    """A rank in a case."""

    folder: Path
    rank: int
    world: int
    culprit: int
    device: torch.device

    @property
    def fails(self) -> bool:
        """Whether this is the rank that fails."""
        return self.rank == self.culprit

    def open(self, name: str = "long", framework: str = "pt", **options: Any) -> safe_open:
        """Opens one of the checkpoints with all ranks."""
        options = {"buffer_size": SLAB_BYTES, "device": self.device, "process_group": dist.group.WORLD, **options}
        return safe_open(self.folder / f"{name}.safetensors", framework, **options)

    def load(self, name: str = "long", framework: str = "pt", **options: Any) -> None:
        """Opens one and takes all its tensors."""
        with self.open(name, framework, **options) as f:
            for _ in f.tensors():
                pass

    def own_copy(self) -> Path:
        """A long checkpoint that this rank can spoil."""
        path = self.folder / f"own.{self.rank}.safetensors"
        path.write_bytes((self.folder / "long.safetensors").read_bytes())
        return path


class Untold(Exception):
    """An error that has no text."""

    def __str__(self) -> str:
        raise ZeroDivisionError("while its text was made")


# Tracebacks that somebody keeps.
kept: list[BaseException] = []


def failing_in(cases: Cases) -> Callable[[Callable[[Here], None]], Callable[[Here], None]]:
    """A decorator that adds a case for each of two ranks that may be the one that fails."""

    def failing(function: Callable[[Here], None]) -> Callable[[Here], None]:
        for which, culprit in (("first", 0), ("last", -1)):
            cases[f"{function.__name__} on the {which}"] = partial(told_in_case, function, culprit)
        return function

    return failing


def told_in_case(
    function: Callable[[Here], None], culprit: int, folder: Path, rank: int, world: int, device: torch.device
) -> str:
    return told(function, Here(folder, rank, world, culprit % world, device))


def told(function: Callable[[Here], None], here: Here) -> str:
    """What came of a failure on this rank, as JSON, and whether all goes on working afterwards."""
    dist.barrier()
    begun = time.monotonic()
    # Ctrl-C included.
    text = error(lambda: function(here), BaseException, said)
    took_s = time.monotonic() - begun
    afterwards = ranks.same(here.folder / "plain.safetensors", copy=False, device=here.device)
    kept.clear()
    return json.dumps({"error": text, "took_s": took_s, "afterwards": afterwards, "slabs": ranks.live_slabs()})


def said(raised: BaseException) -> str:
    return "" if isinstance(raised, Untold) else str(raised)
