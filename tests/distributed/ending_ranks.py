"""What each rank does in test_ending_ranks.py: the last one's load raises, and its process ends at once."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import ranks
import torch
import torch.distributed as dist
from instanttensor import safe_open
from rank_worlds import error, meet_on

PATIENCE_S = 60


def write_checkpoints(folder: Path) -> None:
    """All files, before any rank starts."""
    ranks.write_checkpoints(folder)


def live_in(rank: int, world: int, folder: str, kind: str = "cpu") -> None:
    """On a GPU of its own with kind "cuda"."""
    torch.set_num_threads(1)
    device = meet_on(kind, rank, world, folder, patience_s=PATIENCE_S)
    # All have an engine, and know each other.
    ranks.same(Path(folder) / "plain.safetensors", device=device)
    dist.barrier()
    begun = time.monotonic()
    name = "missing" if rank == world - 1 else "long"
    path = Path(folder) / f"{name}.safetensors"
    text = error(lambda: safe_open(path, "pt", device, process_group=dist.group.WORLD).close())
    answer = json.dumps({"error": text, "took_s": time.monotonic() - begun})
    Path(folder, f"answers.{rank}.json").write_text(json.dumps({"ended": answer}))
    # The group is not destroyed: nobody waits for anybody any more.
    os._exit(0)
