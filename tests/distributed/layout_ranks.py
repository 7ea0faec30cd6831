"""What each rank does in test_layouts.py: groups of all shapes load at the same time, each tensors of its own."""

from __future__ import annotations

import itertools
import json
import math
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from instanttensor import safe_open
from rank_worlds import Cases, go_through, meet
from ranks import live_slabs
from samples import BITS, F6, Stored, bytes_of, stored, write

PATIENCE_S = 60
# The parallel dimensions of a world, the outermost first.
GRIDS = {2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}
TORCH_TYPES = [dtype for dtype in BITS if dtype not in F6]
NUMPY_TYPES = ["BOOL", "U8", "I8", "I16", "U16", "F16", "I32", "U32", "F32", "C64", "F64", "I64", "U64"]
STAGES = 8
# A rank's part of a slab is a multiple of this.
PART_BYTES = 512
# A partition of all ranks.
Layout = tuple[tuple[int, ...], ...]

case = CASES = Cases()


def write_checkpoints(folder: Path) -> None:
    """All files of the cases but the examples', before any rank starts."""
    write(folder / "stages.safetensors", stages(), padding=5)


def stages() -> dict[str, Stored]:
    """The tensors of stages.safetensors, in its order."""
    return {
        f"stage.{stage}.{n:02}.{dtype}": stored(dtype, [10 * n, 20 + 2 * stage], stage + n)
        for stage in range(STAGES)
        for n, dtype in enumerate(TORCH_TYPES)
    }


# ---------------------------------------------------------------------------------------- examples


def layouts(world: int) -> st.SearchStrategy[Layout]:
    """Any partition of the ranks."""

    def cut(order: list[int], stops: set[int]) -> Layout:
        bounds = [0, *sorted(stops), world]
        return tuple(sorted(tuple(sorted(order[a:b])) for a, b in itertools.pairwise(bounds)))

    return st.builds(cut, st.permutations(range(world)), st.sets(st.integers(1, world - 1)))


def examples(world: int) -> st.SearchStrategy[dict[str, Any]]:
    """Checkpoints, and how the groups of a layout load them."""
    shapes = st.lists(st.integers(0, 2) | st.integers(1, 40), max_size=3)

    def of(framework: str) -> st.SearchStrategy[dict[str, Any]]:
        dtypes = st.sampled_from(TORCH_TYPES if framework == "pt" else NUMPY_TYPES)
        return st.fixed_dictionaries({
            "framework": st.just(framework),
            "layout": layouts(world),
            "tensors": st.lists(st.tuples(dtypes, shapes).filter(is_whole), max_size=12),
            "padding": st.integers(0, 9),
            "buffer_size": st.none() | st.integers(1, 100) | st.integers(1000, 100_000),
            "copy": st.booleans(),
            # Which tensors each group leaves out: those with these numbers, modulo 7.
            "left_out": st.lists(st.sets(st.integers(0, 6)).map(sorted), min_size=world, max_size=world),
        })  # fmt: skip

    return st.sampled_from(["pt", "pt", "np"]).flatmap(of)


def is_whole(tensor: tuple[str, list[int]]) -> bool:
    """Whether its elements end with a byte, and its rows, which torch has to view by the byte."""
    dtype, shape = tensor
    return BITS[dtype] >= 8 or (bool(shape) and shape[-1] % 2 == 0)


def write_examples(folder: Path, world: int, count: int) -> list[dict[str, Any]]:
    """Chooses them, the same ones each time, and writes them down for the ranks."""
    chosen: list[dict[str, Any]] = []

    @settings(max_examples=count, derandomize=True, database=None, phases=[Phase.generate])
    @given(examples(world))
    def choose(example: dict[str, Any]) -> None:
        chosen.append(example)

    choose()
    for number, example in enumerate(chosen):
        write(folder / f"example.{number}.safetensors", contents(example), padding=example["padding"])
    (folder / "examples.json").write_text(json.dumps(chosen))
    return chosen


def contents(example: dict[str, Any]) -> dict[str, Stored]:
    """The tensors of an example, in the order of its file."""
    return {f"{n:02}": stored(dtype, shape, n) for n, (dtype, shape) in enumerate(example["tensors"])}


# ------------------------------------------------------------------------------------------- cases

_groups: dict[tuple[int, ...], Any] = {}


def group_of(layout: Sequence[Sequence[int]], rank: int) -> tuple[int, Any]:
    """The number of this rank's group in the layout, and the group; all ranks make all groups."""
    for members in map(tuple, layout):
        if members not in _groups:
            _groups[members] = dist.new_group(list(members))
    number = next(n for n, members in enumerate(layout) if rank in members)
    return number, _groups[tuple(layout[number])]


def difference(loaded: list[tuple[str, Any]], wanted: dict[str, Stored]) -> str:
    """Between what was loaded and what is in the file, in its order; "same" for none."""
    if [name for name, _ in loaded] != list(wanted):
        return f"names {[name for name, _ in loaded]} instead of {list(wanted)}"
    wrong = [name for name, tensor in loaded if bytes_of(tensor) != wanted[name][2]]
    return f"other bytes in {wrong}" if wrong else "same"


@case
def chosen_examples(folder: Path, rank: int, world: int) -> str:
    answers = []
    for number, example in enumerate(json.loads((folder / "examples.json").read_text())):
        try:
            answers.append(run_example(folder / f"example.{number}.safetensors", example, rank))
        except Exception:
            answers.append(traceback.format_exc())
    return json.dumps(answers)


def run_example(path: Path, example: dict[str, Any], rank: int) -> str:
    number, group = group_of(example["layout"], rank)
    left_out = example["left_out"][number]
    wanted = {name: tensor for name, tensor in contents(example).items() if int(name) % 7 not in left_out}
    options = {name: example[name] for name in ("buffer_size", "copy")}
    if len(wanted) < len(example["tensors"]):
        options |= {"tensor_filter": list(wanted), "tensor_name_match_mode": "exact"}
    with safe_open(path, example["framework"], process_group=group, **options) as f:
        return difference(list(f.tensors()), wanted)


@case
def parallel_dimensions(folder: Path, rank: int, world: int) -> str:
    """Tensor, pipeline, expert and data parallel layouts: the ranks that differ in some dimensions of the grid alone
    want the same tensors, and load them together; all such groups do at the same time."""
    answers = []
    grid = torch.arange(world).reshape(GRIDS[world])
    for count in range(1, grid.dim() + 1):
        for together in itertools.combinations(range(grid.dim()), count):
            others = [dim for dim in range(grid.dim()) if dim not in together]
            size = math.prod(grid.shape[dim] for dim in together)
            layout = grid.permute(*others, *together).reshape(-1, size).tolist()
            number, group = group_of(layout, rank)
            stage = f"stage.{number}."
            wanted = {name: tensor for name, tensor in stages().items() if name.startswith(stage)}
            path = folder / "stages.safetensors"
            for copy in (True, False):
                with safe_open(
                    path, "pt", process_group=group, tensor_filter=[f"{stage}*"], buffer_size=10_000, copy=copy
                ) as f:
                    answers.append(difference(list(f.tensors()), wanted))
                    stats = f.stats()
                bytes_of_stage = sum(len(data) for _, _, data in wanted.values())
                if stats["read_bytes"] > bytes_of_stage / size + PART_BYTES * stats["slabs"]:
                    answers.append(f"one of {size} read {stats['read_bytes']} of {bytes_of_stage} bytes")
    return " ".join(sorted(set(answers)))


@case
def two_groups_of_a_rank_in_turns(folder: Path, rank: int, world: int) -> str:
    """A rank is in a group with all and in one with its neighbour, and takes a tensor from each in turn."""
    path = folder / "stages.safetensors"
    pairs = [list(range(world))[first : first + 2] for first in range(0, world, 2)]
    number, near = group_of(pairs, rank)
    _, far = group_of([list(range(world))], rank)
    loaded: list[tuple[tuple[str, Any], tuple[str, Any]]]
    with (
        safe_open(path, "pt", process_group=near, tensor_filter=[f"stage.{number}.*"], buffer_size=10_000) as one,
        safe_open(path, "pt", process_group=far, tensor_filter=["stage.7.*"], buffer_size=10_000, copy=False) as other,
    ):
        loaded = list(zip(one.tensors(), other.tensors()))
    answers = {
        difference([pair[n] for pair in loaded], {k: v for k, v in stages().items() if k.startswith(f"stage.{stage}.")})
        for n, stage in enumerate((number, 7))
    }
    return " ".join(sorted(answers))


@case
def nothing_is_left(folder: Path, rank: int, world: int) -> str:
    return f"{live_slabs()} slabs"


def live_in(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    meet("gloo", rank, world, folder, patience_s=PATIENCE_S)
    go_through(CASES, rank, folder, Path(folder), rank, world)
