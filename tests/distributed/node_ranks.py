"""What each rank does in test_nodes.py: ranks of several machines, told apart by what `_agreement.host` says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from instanttensor import safe_open
from rank_worlds import Cases, error, go_through, meet_on
from ranks import KIB, PATIENCE_S, digest, expected
from safetensors.torch import save_file

# Several lie in a slab.
TENSORS, TENSOR_BYTES = 256, 50_000
BUFFER_BYTES = 900 * KIB

case = CASES = Cases()
# The device that this rank loads to.
where = [torch.device("cpu")]


def write_checkpoints(folder: Path) -> None:
    """One checkpoint, on a file system that all nodes share."""
    values = {f"t{n:03}": torch.randint(0, 255, (TENSOR_BYTES,), dtype=torch.uint8) for n in range(TENSORS)}
    save_file(values, folder / "shared.safetensors")


def load(path: Path, node: int, **options: Any) -> str:
    """Loads as a rank of a node; JSON of what came, and of the bytes that this rank has read."""
    with (
        mock.patch("instanttensor._agreement.host", return_value=f"node {node}"),
        safe_open(
            path, "pt", process_group=dist.group.WORLD, buffer_size=BUFFER_BYTES, device=where[0], **options
        ) as f,
    ):
        tensors = dict(f.tensors())
        read = f.stats()["read_bytes"]
    return json.dumps({"node": node, "read": read, "same": digest(tensors) == expected(path)})


@case
def once_per_group(folder: Path, rank: int, world: int) -> str:
    return load(folder / "shared.safetensors", 2 * rank // world)


@case
def once_per_node_of_two(folder: Path, rank: int, world: int) -> str:
    return load(folder / "shared.safetensors", 2 * rank // world, read_once_per="node")


@case
def once_per_node_of_unequal_ones(folder: Path, rank: int, world: int) -> str:
    return load(folder / "shared.safetensors", 0 if rank < world - 1 else 1, read_once_per="node")


@case
def once_per_node_with_ranks_in_turns(folder: Path, rank: int, world: int) -> str:
    return load(folder / "shared.safetensors", rank % 2, read_once_per="node")


@case
def once_per_node_on_a_single_one(folder: Path, rank: int, world: int) -> str:
    return load(folder / "shared.safetensors", 0, read_once_per="node")


@case
def different_words(folder: Path, rank: int, world: int) -> str:
    option = "node" if rank == 1 else "group"
    return error(lambda: load(folder / "shared.safetensors", 2 * rank // world, read_once_per=option))


@case
def a_file_cut_on_another_node(folder: Path, rank: int, world: int) -> str:
    """Every rank has a file of its own; the last one's is cut in the middle of the load."""
    options: dict[str, Any] = {"buffer_size": BUFFER_BYTES, "read_once_per": "node", "device": where[0]}
    path = folder / f"own.{rank}.safetensors"
    path.write_bytes((folder / "shared.safetensors").read_bytes())

    def cut_in_the_middle() -> None:
        with (
            mock.patch("instanttensor._agreement.host", return_value=f"node {2 * rank // world}"),
            safe_open(path, "pt", process_group=dist.group.WORLD, **options) as f,
        ):
            tensors = f.tensors()
            next(tensors)
            dist.barrier()
            if rank == world - 1:
                os.truncate(path, 1 << 20)
            dist.barrier()
            list(tensors)

    text = error(cut_in_the_middle).replace(str(path), "FILE")
    return f"{text} / {load(folder / 'shared.safetensors', 2 * rank // world, read_once_per='node')}"


def live_in(rank: int, world: int, folder: str, kind: str = "cpu", *names: str) -> None:
    """Goes through the cases of these names, or through all; on a GPU of its own with kind "cuda"."""
    torch.set_num_threads(1)
    where[0] = meet_on(kind, rank, world, folder, patience_s=PATIENCE_S)
    go_through(Cases({name: CASES[name] for name in names or CASES}), rank, folder, Path(folder), rank, world)
