"""What each rank does in test_cuda_ranks.py: the cases, and the world that goes through them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from instanttensor import safe_open
from rank_worlds import Cases, go_through, meet_on
from safetensors.torch import load_file, save_file

PATIENCE_S = 90
MIB = 1 << 20

case = CASES = Cases()


def write_checkpoints(folder: Path) -> None:
    """All files of the cases, before any rank starts."""
    generator = torch.Generator().manual_seed(5)
    for file in range(3):
        tensors: dict[str, torch.Tensor] = {"scalar": torch.tensor(7.5), "empty": torch.empty(0, 4)}
        for n in range(40):
            tensors[f"f32.{n}"] = torch.randn(50_001 + 1000 * n, generator=generator)
            tensors[f"bf16.{n}"] = torch.randn(333, 70 + n, generator=generator).to(torch.bfloat16)
            tensors[f"i16.{n}"] = torch.randint(-999, 999, (n, 13), generator=generator, dtype=torch.int16)
            tensors[f"f8.{n}"] = torch.randn(3100 + n, generator=generator).to(torch.float8_e4m3fn)
        save_file({f"{file}.{name}": t for name, t in tensors.items()}, folder / f"{file}.safetensors")


def expected(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    return found


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.cpu().reshape(-1).view(torch.uint8)


def compare(loaded: dict[str, Any], wanted: dict[str, torch.Tensor], device: torch.device) -> str:
    if sorted(loaded) != sorted(wanted):
        return f"{len(loaded)} names, {len(wanted)} expected"
    for name, tensor in loaded.items():
        other = wanted[name]
        if (tensor.dtype, tensor.shape, tensor.device) != (other.dtype, other.shape, device):
            return f"{name}: {tensor.dtype} {tensor.shape} {tensor.device}"
        if not torch.equal(bits(tensor), bits(other)):
            return f"{name}: other bytes"
    return f"{len(loaded)} tensors are the same"


def load(folder: Path, device: torch.device, **options: Any) -> dict[str, torch.Tensor]:
    with safe_open(folder, "pt", device=device, process_group=dist.group.WORLD, **options) as f:
        return dict(f.tensors())


@case
def copies(folder: Path, device: torch.device) -> str:
    return compare(load(folder, device), expected(folder), device)


@case
def views(folder: Path, device: torch.device) -> str:
    return compare(load(folder, device, copy=False), expected(folder), device)


@case
def copies_from_small_slabs(folder: Path, device: torch.device) -> str:
    return compare(load(folder, device, buffer_size=4 * MIB), expected(folder), device)


@case
def views_of_small_slabs(folder: Path, device: torch.device) -> str:
    return compare(load(folder, device, copy=False, buffer_size=4 * MIB), expected(folder), device)


@case
def a_filter(folder: Path, device: torch.device) -> str:
    wanted = {name: t for name, t in expected(folder).items() if ".bf16." in name or name.endswith("scalar")}
    return compare(load(folder, device, tensor_filter=["*.bf16.*", "?.scalar"]), wanted, device)


@case
def dropped_while_the_stream_lags(folder: Path, device: torch.device) -> str:
    """Slabs are used again, by readers and by the collective, before the rank has come to read them."""
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None
    sums: dict[str, torch.Tensor] = {}
    with torch.cuda.stream(stream):
        options: dict[str, Any] = {"copy": False, "buffer_size": 4 * MIB, "tensor_filter": ["*.f32.*"]}
        with safe_open(folder, "pt", device=device, process_group=dist.group.WORLD, **options) as f:
            for name, tensor in f.tensors():
                if device.type == "cuda":
                    torch.cuda._sleep(4_000_000)
                sums[name] = tensor.view(torch.int32).sum(dtype=torch.int64)
                del tensor
    wanted = {name: t.view(torch.int32).sum(dtype=torch.int64) for name, t in expected(folder).items() if "f32" in name}
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    wrong = [name for name, value in wanted.items() if int(sums[name]) != int(value)]
    return f"wrong: {wrong}"


@case
def one_after_the_other(folder: Path, device: torch.device) -> str:
    with safe_open(folder, "pt", device=device, process_group=dist.group.WORLD) as f:
        for _ in f.tensors():
            break
        return compare(dict(f.tensors()), expected(folder), device)


@case
def nothing_is_left(folder: Path, device: torch.device) -> str:
    import gc

    from instanttensor import _bridge

    gc.collect()
    return f"{_bridge.engine().liveExports()} slabs"


def live_in(rank: int, world: int, folder: str, kind: str) -> None:
    """On a GPU of its own with kind "cuda"; on the host with any other."""
    device = meet_on(kind, rank, world, folder, patience_s=PATIENCE_S)
    go_through(CASES, rank, folder, Path(folder), device)
