"""What each rank does in test_failing_ranks.py: one of them fails, at each step from the arguments to the last slab."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import leaving_ranks
import ranks
import torch
import torch.distributed as dist
from failing_world import PATIENCE_S, SLAB_BYTES, Here, Untold, failing_in, told_in_case
from instanttensor import _agreement, _distributed, safe_open
from rank_worlds import Cases, error, go_through, meet_on
from safetensors.torch import load_file, save_file

MIB = 1 << 20
# Of a group whose time-out ends a case.
GROUP_PATIENCE_S = 3

CASES = Cases()
failing = failing_in(CASES)


def write_checkpoints(folder: Path) -> None:
    """All files of the cases, before any rank starts."""
    ranks.write_checkpoints(folder)
    long = load_file(folder / "long.safetensors")
    save_file(long, folder / "metadata.safetensors", {"other": "metadata"})
    save_file({**long, "more": torch.ones(3)}, folder / "more.safetensors")
    save_file({name: tensor.view(torch.int32) for name, tensor in long.items()}, folder / "types.safetensors")
    whole = (folder / "long.safetensors").read_bytes()
    (folder / "part.safetensors").write_bytes(whole[:-1])
    large = folder / "large.safetensors"
    header = json.dumps({"a": {"dtype": "U8", "shape": [512 * MIB], "data_offsets": [0, 512 * MIB]}}).encode()
    large.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(large, large.stat().st_size + 512 * MIB)


# ----------------------------------------------------------------------------------------- opening


def no_engine(here: Here) -> None:
    with mock.patch.dict(os.environ, {"INSTANTTENSOR_JAVA_HOME": "/nowhere"} if here.fails else {}):
        here.load()


# The first case, and that once: afterwards every rank has an engine.
CASES["no_engine on the last"] = partial(told_in_case, no_engine, -1)


@failing
def an_argument(here: Here) -> None:
    here.load(buffer_size=-1 if here.fails else SLAB_BYTES)


@failing
def a_framework(here: Here) -> None:
    here.load(framework="jax" if here.fails else "pt")


@failing
def a_pattern(here: Here) -> None:
    here.load(tensor_filter=["(" if here.fails else "t.*"], tensor_name_match_mode="regex")


@failing
def a_device(here: Here) -> None:
    here.load(device="tpu" if here.fails else "cpu")


@failing
def a_missing_file(here: Here) -> None:
    here.load("missing" if here.fails else "long")


@failing
def half_a_file(here: Here) -> None:
    here.load("part" if here.fails else "long")


@failing
def a_warning_as_an_error(here: Here) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error" if here.fails else "ignore")
        here.load(concurrency=1000)


# --------------------------------------------------------------------------------------- comparing


@failing
def other_metadata(here: Here) -> None:
    here.load("metadata" if here.fails else "long")


@failing
def another_tensor(here: Here) -> None:
    here.load("more" if here.fails else "long")


@failing
def other_types(here: Here) -> None:
    here.load("types" if here.fails else "long")


@failing
def another_filter(here: Here) -> None:
    here.load(tensor_filter=["t1*"] if here.fails else ["t?", "t1?"])


@failing
def a_filter_on_one(here: Here) -> None:
    here.load(tensor_filter=["t?"] if here.fails else None)


@failing
def a_long_filter(here: Here) -> None:
    # As long as can be where it is compared: each of these characters takes twice its room there.
    here.load(tensor_filter=["t?", '\\"€' * 400] if here.fails else ["t1?", '\\"€' * 400])


@failing
def another_type_of_device(here: Here) -> None:
    """What a rank says that loads to a GPU while the others do not."""
    described = _agreement._described

    def elsewhere(*arguments: Any) -> dict[str, Any]:
        return {**described(*arguments), "device": "cuda"}

    with mock.patch.object(_agreement, "_described", elsewhere) if here.fails else ExitStack():
        here.load()


@failing
def no_memory_for_any_slab(here: Here) -> None:
    from instanttensor import _loading

    fails = mock.patch.object(_loading, "cap_bytes", side_effect=torch.OutOfMemoryError("0 bytes were free"))
    with fails if here.fails else ExitStack():
        here.load(buffer_size=None)


@failing
def closed_before_the_first(here: Here) -> None:
    f = here.open()
    tensors = f.tensors()
    if here.fails:
        f.close()
    for _ in tensors:
        pass


# ---------------------------------------------------------------------------------------- starting


@failing
def a_file_cut_before_the_load(here: Here) -> None:
    cut(here, after=0)


@failing
def a_warning_of_a_large_tensor(here: Here) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error" if here.fails else "ignore")
        here.load(buffer_size=150_000, tensor_filter=["t0"])


@failing
def no_progress_bar(here: Here) -> None:
    with mock.patch.dict(sys.modules, {"tqdm.auto": None}):
        here.load(progress=here.fails)


# --------------------------------------------------------------------------------------- in between


@failing
def a_file_cut_in_the_middle(here: Here) -> None:
    cut(here, after=5)


def cut(here: Here, after: int) -> None:
    """Truncates the file of the rank that fails, after so many tensors."""
    path = here.own_copy()
    options: dict[str, Any] = {"copy": False, "buffer_size": SLAB_BYTES, "device": here.device}
    with safe_open(path, "pt", process_group=dist.group.WORLD, **options) as f:
        tensors = f.tensors()
        for _ in range(after):
            next(tensors)
        dist.barrier()
        if here.fails:
            os.truncate(path, 1 * MIB)
        dist.barrier()
        for _ in tensors:
            pass


@failing
def no_memory_for_a_slab(here: Here) -> None:
    with here.open("large", buffer_size=1024 * MIB) as f, limited(200 * MIB if here.fails else None):
        next(f.tensors())


@contextmanager
def limited(more_bytes: int | None) -> Iterator[None]:
    """No more than that can be mapped in addition to what is."""
    import resource

    if more_bytes is None:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + more_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@failing
def no_view(here: Here) -> None:
    with here.open(copy=False) as f:
        for n, _ in enumerate(f.tensors()):
            if n == 5 and here.fails:
                # Not a Mock, which would remember what it was called with.
                f._checkpoint.framework.views = refuse_views  # type: ignore[method-assign,assignment]


def refuse_views(*_: Any) -> Any:
    raise MemoryError("no view")


@failing
def a_callback_that_raises(here: Here) -> None:
    def progress(done: int, total: int) -> None:
        if here.fails and done > total // 2:
            raise ZeroDivisionError(f"at more than half of {total}")

    here.load(progress=progress)


@failing
def an_error_without_a_text(here: Here) -> None:
    raised_at_half(here, Untold())


@failing
def an_error_that_is_no_utf_8(here: Here) -> None:
    raised_at_half(here, ValueError("a file called \udcff"))


def raised_at_half(here: Here, what: Exception) -> None:
    """Has the rank that fails raise it in the middle."""

    def progress(done: int, total: int) -> None:
        if here.fails and done > total // 2:
            raise what

    here.load(progress=progress)


@failing
def a_gather_that_fails(here: Here) -> None:
    """In a group of its own, which is good for nothing afterwards, and waits for a short time."""
    group = dist.new_group(timeout=timedelta(seconds=GROUP_PATIENCE_S))
    gather, asked = _distributed.Group.gather, []

    def fail_the_third(joint: _distributed.Group, base: torch.Tensor) -> None:
        asked.append(base.numel())
        if len(asked) == 3:
            raise MemoryError("no gather")
        gather(joint, base)

    with mock.patch.object(_distributed.Group, "gather", fail_the_third) if here.fails else ExitStack():
        here.load(process_group=group)


# --------------------------------------------------------------------------------------- subgroups


def failure_in_a_subgroup(folder: Path, rank: int, world: int, device: torch.device) -> str:
    """The last rank and the one before it are a group, in which the last one fails; the others load without them."""
    members = [world - 2, world - 1]
    group = dist.new_group(members)
    others = dist.new_group([r for r in range(world) if r not in members]) if world > 2 else None
    if rank not in members:
        return ranks.same(folder / "plain.safetensors", others, device=device)
    name = "missing" if rank == world - 1 else "long"
    text = error(lambda: list(safe_open(folder / f"{name}.safetensors", "pt", device, process_group=group).tensors()))
    return f"{text} / {ranks.same(folder / 'plain.safetensors', group, device=device)}"


CASES["failure_in_a_subgroup"] = failure_in_a_subgroup


def not_in_the_group(folder: Path, rank: int, world: int, device: torch.device) -> str:
    group = dist.new_group([0])
    return error(lambda: safe_open(folder / "plain.safetensors", "pt", process_group=group).close())


CASES["not_in_the_group"] = not_in_the_group


def live_in(rank: int, world: int, folder: str, kind: str = "cpu", *names: str) -> None:
    """Goes through the cases of these names, or through all; on a GPU of its own with kind "cuda"."""
    torch.set_num_threads(1)
    device = meet_on(kind, rank, world, folder, patience_s=PATIENCE_S)
    # In this order: the first one wants ranks without an engine.
    every = {**CASES, **leaving_ranks.CASES}
    cases = {name: every[name] for name in names or every}
    go_through(Cases(cases), rank, folder, Path(folder), rank, world, device)
