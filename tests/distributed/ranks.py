"""What each rank does in test_ranks.py: the cases, and the world that goes through them."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.distributed as dist
from instanttensor import safe_open
from rank_worlds import Cases, go_through, meet
from safetensors.torch import load_file, save_file

PATIENCE_S = 60
# Slabs come back a moment after the last of their tensors.
GIVEN_BACK_S = 5
KIB = 1 << 10

case = CASES = Cases()


def write_checkpoints(folder: Path) -> None:
    """All files of the cases, before any rank starts."""
    torch.manual_seed(5)
    plain: dict[str, torch.Tensor] = {}
    for n in range(20):
        plain[f"f32.{n:02}"] = torch.randn(257 + 100 * n)
        plain[f"bf16.{n:02}"] = torch.randn(33, 7 + n).to(torch.bfloat16)
        plain[f"i16.{n:02}"] = torch.randint(-999, 999, (n, 13), dtype=torch.int16)
        plain[f"f8.{n:02}"] = torch.randn(31 + n).to(torch.float8_e4m3fn)
        plain[f"bool.{n:02}"] = torch.randint(0, 2, (3, n + 1), dtype=torch.bool)
    plain["scalar"] = torch.tensor(7.5)
    plain["empty"] = torch.empty(0, 4)
    save_file(plain, folder / "plain.safetensors")
    save_file({"only": torch.tensor([3], dtype=torch.uint8)}, folder / "tiny.safetensors")
    save_file({"nothing": torch.empty(0)}, folder / "empty.safetensors")
    save_file({f"t{n}": torch.full((50_000,), float(n)) for n in range(40)}, folder / "long.safetensors")
    unaligned(folder / "unaligned.safetensors")


def unaligned(path: Path) -> None:
    """Data that starts at an odd offset, and tensors that are not aligned to their elements."""
    header: dict[str, Any] = {}
    data = b""
    for n in range(9):
        for dtype, size in (("U8", 1), ("F32", 4), ("I64", 8)):
            count = 3 + n
            values = np.arange(n, n + count).astype({"U8": "u1", "F32": "<f4", "I64": "<i8"}[dtype]).tobytes()
            assert len(values) == count * size
            header[f"{dtype}.{n}"] = {
                "dtype": dtype, "shape": [count], "data_offsets": [len(data), len(data) + len(values)]
            }  # fmt: skip
            data += values
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (1 - len(text) % 2)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def digest(tensors: dict[str, Any]) -> str:
    """Of names, types, shapes and bytes; the same for torch and numpy."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        if isinstance(tensor, np.ndarray):
            tensor = np.ascontiguousarray(tensor)
            size, data = tensor.itemsize, tensor.tobytes()
        else:
            size, data = tensor.element_size(), bits(tensor).tobytes()
        found.update(f"{name} {size} {tuple(tensor.shape)}".encode() + data)
    return found.hexdigest()


def bits(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """The bytes of a tensor on any device."""
    found: np.ndarray[Any, Any] = tensor.contiguous().reshape(-1).view(torch.uint8).cpu().numpy()
    return found


def expected(path: Path) -> str:
    return digest(load_file(path))


def same(path: Path, group: Any = None, framework: str = "pt", **options: Any) -> str:
    with safe_open(path, framework, process_group=group or dist.group.WORLD, **options) as f:
        tensors = dict(f.tensors())
        read = f.stats()["read_bytes"]
    whole = sum(tensor.nbytes for tensor in tensors.values())
    if dist.get_world_size(group) > 1 and whole > 64 * KIB and read > 0.8 * whole:
        return f"read {read} of {whole} bytes: not a part"
    del f
    return "same" if digest(tensors) == expected(path) else "different"


@case
def torch_copies(folder: Path, rank: int, world: int) -> str:
    return same(folder / "plain.safetensors", copy=True)


@case
def torch_views(folder: Path, rank: int, world: int) -> str:
    return same(folder / "plain.safetensors", copy=False, buffer_size=16 * KIB)


@case
def numpy_copies(folder: Path, rank: int, world: int) -> str:
    return same(folder / "long.safetensors", framework="np", copy=True, buffer_size=900 * KIB)


@case
def numpy_views(folder: Path, rank: int, world: int) -> str:
    return same(folder / "long.safetensors", framework="np", copy=False, buffer_size=900 * KIB)


@case
def not_aligned(folder: Path, rank: int, world: int) -> str:
    path = folder / "unaligned.safetensors"
    return same(path) + " " + same(path, copy=False) + " " + same(path, framework="np", buffer_size=100)


@case
def smaller_than_the_world(folder: Path, rank: int, world: int) -> str:
    return same(folder / "tiny.safetensors") + " " + same(folder / "empty.safetensors", copy=False)


@case
def twice_from_one_file(folder: Path, rank: int, world: int) -> str:
    path = folder / "plain.safetensors"
    with safe_open(path, "pt", process_group=dist.group.WORLD, copy=False) as f:
        first, second = dict(f.tensors()), dict(f.tensors())
    return " ".join("same" if digest(each) == expected(path) else "different" for each in (first, second))


@case
def some_of_them(folder: Path, rank: int, world: int) -> str:
    path = folder / "plain.safetensors"
    with safe_open(path, "pt", process_group=dist.group.WORLD, tensor_filter=["f8.*", "i16.0?"]) as f:
        tensors = dict(f.tensors())
    wanted = {n: t for n, t in load_file(path).items() if n.startswith("f8.") or n.startswith("i16.0")}
    return "same" if digest(tensors) == digest(wanted) else "different"


@case
def other_words_for_the_same_filter(folder: Path, rank: int, world: int) -> str:
    """Tensors are compared, not words."""
    path = folder / "plain.safetensors"
    words: dict[str, Any] = (
        {"tensor_filter": ["f8.0?"]}
        if rank == 0
        else {"tensor_filter": [r"f8\.0\d"], "tensor_name_match_mode": "regex"}
    )
    with safe_open(path, "pt", process_group=dist.group.WORLD, **words) as f:
        tensors = dict(f.tensors())
    return (
        "same" if digest(tensors) == digest({n: t for n, t in load_file(path).items() if "f8.0" in n}) else "different"
    )


@case
def the_least_buffer_of_all(folder: Path, rank: int, world: int) -> str:
    """Slabs are cut for the rank that has the least memory."""
    path = folder / "long.safetensors"
    with safe_open(path, "pt", process_group=dist.group.WORLD, buffer_size=(1 + rank) * 900 * KIB) as f:
        tensors = dict(f.tensors())
        peak = f.stats()["peak_buffer_bytes"]
    if not 0 < peak <= 900 * KIB:
        return f"{peak} bytes of slabs"
    return "same" if digest(tensors) == expected(path) else "different"


@case
def one_name_at_a_time_is_local(folder: Path, rank: int, world: int) -> str:
    path = folder / "plain.safetensors"
    with safe_open(path, "pt", process_group=dist.group.WORLD) as f:
        dist.barrier()
        if rank == 0:
            mine = {name: f.get_tensor(name) for name in f.keys()}
            rows = f.get_slice("bf16.05")[2:4]
            return "same" if digest(mine) == expected(path) and rows.shape == (2, 12) else "different"
    return "same"


@case
def a_group_of_some(folder: Path, rank: int, world: int) -> str:
    members = [0, world - 1] if world > 2 else [1]
    group = dist.new_group(members)
    if rank not in members:
        return "same"
    return same(folder / "plain.safetensors", group)


@case
def a_group_of_one(folder: Path, rank: int, world: int) -> str:
    """Such a rank has nobody to ask."""
    groups = [dist.new_group([member]) for member in range(world)]
    with mock.patch.object(dist, "all_gather_into_tensor", side_effect=AssertionError("a collective")):
        return same(folder / "long.safetensors", groups[rank], buffer_size=900 * KIB)


@case
def local_reads_while_others_load(folder: Path, rank: int, world: int) -> str:
    """Rank 0 reads by name in the middle of a pass of all, while the others wait for it there."""
    path = folder / "plain.safetensors"
    with safe_open(path, "pt", process_group=dist.group.WORLD, buffer_size=16 * KIB) as f:
        tensors = f.tensors()
        taken = dict([next(tensors), next(tensors)])
        if rank == 0:
            mine = {name: f.get_tensor(name) for name in f.keys()}
            rows = f.get_slice("bf16.05")[2:4]
            some = f.get_tensors(["scalar", "empty"])
            if digest(mine) != expected(path) or rows.shape != (2, 12) or list(some) != ["scalar", "empty"]:
                return "different"
        taken.update(tensors)
    return "same" if digest(taken) == expected(path) else "different"


@case
def nothing_is_left(folder: Path, rank: int, world: int) -> str:
    return f"{live_slabs()} slabs"


def live_slabs() -> int:
    """Slabs that somebody still has, once those that nobody can reach any more are gone."""
    import gc

    from instanttensor import _bridge

    gc.collect()
    deadline = time.monotonic() + GIVEN_BACK_S
    while (live := _bridge.engine().liveExports()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return live


def live_in(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    meet("gloo", rank, world, folder, patience_s=PATIENCE_S)
    go_through(CASES, rank, folder, Path(folder), rank, world)
