"""Which tensors of a slab are made together, without an engine."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from instanttensor import _batches
from instanttensor._catalogue import Kind, Run, _counted
from instanttensor._errors import UnsupportedDtypeError
from instanttensor._numpy import Numpy
from instanttensor._torch import Torch

BYTES = Kind("U8", (4,), 4)
HALVES = Kind("BF16", (1, 2), 4)
NOTHING = Kind("F32", (0, 3), 0)
SCALAR = Kind("F32", (), 4)
LARGE = Kind("F32", (11, 3000), 132_000)
PAIRS = Kind("F4", (8,), 4)
BOOLS = Kind("BOOL", (4,), 4)
NONE = Kind("F6_E2M3", (4,), 3)


class Columns:
    """A catalogue of tensors that are called by their numbers."""

    def __init__(self, kinds: list[Kind]) -> None:
        self.kinds = list(dict.fromkeys(kinds))
        self._numbers = [self.kinds.index(kind) for kind in kinds]

    def columns(self, indexes: Sequence[int]) -> tuple[list[str], list[tuple[int, int]]]:
        return list(map(str, indexes)), _counted(self._numbers[index] for index in indexes)


def as_on_a_gpu() -> Torch:
    """Makes copies the way it does there, on the host."""
    framework = Torch(torch.device("cpu"))
    framework.ordinal = 0
    return framework


def runs(kinds: list[Kind], offsets: list[int]) -> list[tuple[str, Kind, int]]:
    columns: Any = Columns(kinds)
    found = _batches.runs_of(columns, range(len(kinds)), offsets)
    return [(" ".join(run.names), run.kind, run.offset) for run in found]


def test_neighbours_alike_are_one_run() -> None:
    assert runs([BYTES, BYTES, HALVES, BYTES], [0, 4, 8, 12]) == [
        ("0 1", BYTES, 0), ("2", HALVES, 8), ("3", BYTES, 12)
    ]  # fmt: skip


def test_a_gap_ends_a_run() -> None:
    assert runs([BYTES] * 5, [0, 4, 16, 20, 24]) == [("0 1", BYTES, 0), ("2 3 4", BYTES, 16)]
    assert runs([BYTES] * 3, [0, 8, 16]) == [("0", BYTES, 0), ("1", BYTES, 8), ("2", BYTES, 16)]


def test_tensors_without_a_byte_are_one_run_wherever_they_lie() -> None:
    assert runs([NOTHING] * 3, [0, 0, 8]) == [("0 1 2", NOTHING, 0)]


def names_of(stretches: Any) -> list[list[str]]:
    return [[" ".join(run.names) for run in stretch] for stretch in stretches]


def test_short_runs_are_made_together_and_long_ones_alone() -> None:
    torch_ = Torch(torch.device("cpu"))
    long = Run(["a", "b", "c", "d"], BYTES, 8)
    short, other, empty = Run(["x"], BYTES, 0), Run(["y", "z"], HALVES, 24), Run(["e"], NOTHING, 0)
    made = _batches._stretches(torch_, [short, other, long, short, empty, other, short])
    assert names_of(made) == [["x", "y z"], ["a b c d"], ["x"], ["e"], ["y z", "x"]]


def test_what_comes_before_a_type_that_torch_has_not_is_made() -> None:
    made = _batches._stretches(Torch(torch.device("cpu")), [Run(["x"], BYTES, 0), Run(["y"], NONE, 4)])
    assert names_of([next(made)]) == [["x"]]
    with pytest.raises(UnsupportedDtypeError, match="tensor 'y': dtype F6_E2M3: torch .* has no element type for it"):
        next(made)


@pytest.mark.parametrize(
    "framework", [Torch(torch.device("cpu")), as_on_a_gpu(), Numpy()], ids=["host", "gpu", "numpy"]
)
@pytest.mark.parametrize("make", [_batches.views, _batches.copies])
def test_each_tensor_has_its_own_bytes(framework: Any, make: Any) -> None:
    kinds = [SCALAR, BYTES, BYTES, NOTHING, SCALAR, SCALAR, NOTHING, *[BYTES] * 150, *[SCALAR, BYTES] * 40]
    kinds += [LARGE] * 5
    offsets, at = [], 0
    for kind in kinds:
        offsets.append(at)
        at += kind.size
    base = np.arange(at, dtype=np.int32).astype(np.uint8)
    columns: Any = Columns(kinds)
    made = make(framework, base if isinstance(framework, Numpy) else torch.from_numpy(base),
                _batches.runs_of(columns, range(len(kinds)), offsets))
    found = [(name, tensor) for batch in made for name, tensor in zip(*batch)]
    assert [name for name, _ in found] == list(map(str, range(len(kinds))))
    for (_, tensor), kind, offset in zip(found, kinds, offsets):
        assert tuple(tensor.shape) == kind.shape
        assert np.asarray(tensor).tobytes() == base[offset : offset + kind.size].tobytes()
        if make is _batches.copies and isinstance(framework, Torch):
            assert tensor.untyped_storage().nbytes() == kind.size


@pytest.mark.parametrize("framework", [Torch(torch.device("cpu")), as_on_a_gpu()], ids=["host", "gpu"])
def test_signalling_nans_keep_their_bits(framework: Torch) -> None:
    runs = [
        Run(["a", "b"], Kind("BF16", (2,), 4), 0), Run(["c"], Kind("F32", (1,), 4), 8),
        Run(["d"], Kind("F64", (1,), 8), 16), Run(["e", "f"], Kind("F16", (1,), 2), 24),
        Run(["g"], Kind("C64", (1,), 8), 32), Run(["h"], Kind("BOOL", (2,), 2), 40),
        Run(["i"], Kind("F8_E4M3", (2,), 2), 42), Run(["j"], Kind("F8_E8M0", (2,), 2), 44),
    ]  # fmt: skip
    words = [
        0x7F817F81, 0xFF81FFA1, 0x7FA00001, 0, 1, 0x7FF40000, 0x7D01FC01, 0, 0x7FA00001, 0xFFA00001, 0xFFFF0001, 0x7FFF
    ]  # fmt: skip
    base = torch.from_numpy(np.array(words, dtype=np.uint32).view(np.uint8))
    (batch,) = _batches.copies(framework, base, runs)
    found = b"".join(bytes(tensor.view(torch.uint8).tolist()) for _, tensor in zip(*batch))
    spans = [(run.offset, run.offset + run.kind.size * len(run.names)) for run in runs]
    assert found == b"".join(bytes(base[start:stop].tolist()) for start, stop in spans)


# Of each size of element, and of several axes; 30 and 9 bytes leave the next ones at odd offsets.
KINDS = [
    Kind("BF16", (3, 5), 30), Kind("F16", (), 2), Kind("F32", (2, 1, 3), 24), Kind("F32", (), 4), Kind("C64", (2,), 16),
    Kind("F64", (1, 3), 24), Kind("I64", (2, 2, 2, 2, 2), 256), Kind("U16", (7,), 14), Kind("F8_E5M2", (3, 3), 9),
    Kind("BOOL", (6,), 6), Kind("F4", (3, 4), 6), Kind("BF16", (70_000,), 140_000),
]  # fmt: skip


@pytest.mark.parametrize("count", [1, 2, 3, 4, 63, 64, 131])
@pytest.mark.parametrize("framework", [Torch(torch.device("cpu")), as_on_a_gpu()], ids=["host", "gpu"])
def test_neighbours_of_every_type_are_copied_bit_by_bit(framework: Torch, count: int) -> None:
    runs, at = [], 8
    for kind in KINDS:
        runs.append(Run([f"{kind} {number}" for number in range(count)], kind, at))
        at += -(-kind.size * count // 8) * 8
    # As bfloat16 and as float32 all are signalling NaNs, and no byte is a bool.
    words = np.random.default_rng(0).integers(0, 1 << 16, at // 2, dtype=np.uint16)
    base = torch.from_numpy(((words | 0x7F81) & 0xFFBF).view(np.uint8))
    expected, gone = base.numpy().tobytes(), weakref.ref(base)
    batches = _batches.copies(framework, base, runs)
    del base
    found = {}
    for names, tensors in batches:
        found |= zip(names, tensors)
        assert (gone() is None) == (len(found) == len(runs) * count)
    assert list(found) == [name for run in runs for name in run.names]
    for run in runs:
        for number, name in enumerate(run.names):
            tensor, start = found[name], run.offset + number * run.kind.size
            assert tensor.is_contiguous()
            assert tensor.dtype == framework.dtype(run.kind.dtype)
            assert tensor.shape == framework.shape(run.kind.dtype, run.kind.shape)
            storage = torch.tensor([], dtype=torch.uint8).set_(tensor.untyped_storage())
            assert storage.numpy().tobytes() == expected[start : start + run.kind.size]
    assert len({tensor.data_ptr() for tensor in found.values()}) == len(found)


@pytest.mark.parametrize(
    ("kind", "count", "split"),
    [
        (HALVES, 64, True), (HALVES, 63, False), (SCALAR, 64, False), (PAIRS, 64, False), (BOOLS, 64, False),
        (Kind("F32", (32, 1024), 131_072), 64, True), (LARGE, 64, False),
    ],
)  # fmt: skip
def test_many_small_neighbours_are_split_from_the_slab(
    monkeypatch: pytest.MonkeyPatch, kind: Kind, count: int, split: bool
) -> None:
    splitting, sizes = torch.split_with_sizes_copy, []

    def seen(rows: Any, these: list[int], *, out: Any) -> None:
        sizes.append(len(these))
        splitting(rows, these, out=out)

    monkeypatch.setattr(torch, "split_with_sizes_copy", seen)
    base = torch.zeros(kind.size * count, dtype=torch.uint8)
    assert len(as_on_a_gpu().copies(base, [Run([str(i) for i in range(count)], kind, 0)])) == count
    assert sizes == ([count] if split else [])


@pytest.mark.parametrize("framework", [Torch(torch.device("cpu")), as_on_a_gpu()], ids=["host", "gpu"])
def test_packed_pairs_are_copied_bit_by_bit(framework: Torch) -> None:
    base = torch.arange(16, dtype=torch.uint8)
    (batch,) = _batches.copies(framework, base, [Run(["a", "b"], PAIRS, 4)])
    found = dict(zip(*batch))
    assert {name: tensor.view(torch.uint8).tolist() for name, tensor in found.items()} == {
        "a": [4, 5, 6, 7], "b": [8, 9, 10, 11]
    }  # fmt: skip


@pytest.mark.parametrize("kinds", [[BYTES] * 300, [BYTES, HALVES], [SCALAR] * 5, [SCALAR, BYTES]])
@pytest.mark.parametrize("make", [_batches.views, _batches.copies])
@pytest.mark.parametrize("framework", [Torch(torch.device("cpu")), as_on_a_gpu()], ids=["host", "gpu"])
def test_a_tensor_is_nothing_to_its_neighbours_but_their_memory(
    framework: Torch, kinds: list[Kind], make: Any
) -> None:
    base = torch.zeros(4 * len(kinds), dtype=torch.uint8)
    floats = [Kind("F32", (), 4) if kind is SCALAR else Kind("F32", (1,), 4) for kind in kinds]
    columns: Any = Columns(floats)
    offsets = range(0, 4 * len(kinds), 4)
    made = make(framework, base, _batches.runs_of(columns, range(len(kinds)), offsets))
    tensors = [tensor for batch in made for _, tensor in zip(*batch)]
    first = torch.nn.Parameter(tensors[0])
    squared = (first * first).sum()
    tensors[1].add_(1)
    tensors[1].mul_(torch.ones((), requires_grad=True))
    squared.backward()
    assert first.grad is not None
    assert [tensor.requires_grad for tensor in tensors] == [False, True, *[False] * (len(tensors) - 2)]
    assert tensors[0].item() == 0
    assert tensors[1].item() == 1


real_empty = torch.empty


def as_fake(shape: Any, **options: Any) -> torch.Tensor:
    return real_empty(shape, **{**options, "device": "meta"})


def as_half(shape: Any, **options: Any) -> torch.Tensor:
    return real_empty(shape, **{**options, "dtype": torch.float16})


@pytest.mark.parametrize("other", [as_fake, as_half])
def test_nothing_is_read_into_another_memory_than_was_asked_for(other: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "empty", other)
    with pytest.raises(RuntimeError, match="torch.empty was asked for 48 bytes on cpu, and made"):
        Torch(torch.device("cpu")).empty("F32", (3, 4))


def test_whoever_replaces_torch_empty_for_floats_gets_the_type_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def empty(*arguments: Any, **options: Any) -> torch.Tensor:
        made = real_empty(*arguments, **options)
        return made.half() if made.is_floating_point() else made

    monkeypatch.setattr(torch, "empty", empty)
    made = Torch(torch.device("cpu")).empty("F32", (3, 4))
    assert (made.dtype, made.shape, made.untyped_storage().nbytes()) == (torch.float32, (3, 4), 48)


def test_a_group_ends_at_so_many_tensors_or_bytes() -> None:
    small, half = Run([str(i) for i in range(258)], BYTES, 0), Kind("U8", (40 << 20,), 40 << 20)
    large = Run(["a", "b", "c"], half, 2048)
    groups = _batches._groups(Torch(torch.device("cpu")), [small, large])
    assert [[(run.names, run.offset) for run in group] for group in groups] == [
        [([str(i) for i in range(128)], 0)],
        [([str(i) for i in range(128, 256)], 512)],
        [(["256", "257"], 1024), (["a", "b"], 2048)],
        [(["c"], 2048 + 2 * half.size)],
    ]


def test_the_slab_is_let_go_of_before_the_last_copies_are_seen() -> None:
    base = torch.zeros(4 * 200, dtype=torch.uint8)
    gone = weakref.ref(base)
    batches = _batches.copies(Torch(torch.device("cpu")), base, [Run([str(i) for i in range(200)], BYTES, 0)])
    del base
    first = next(batches)
    assert gone() is not None
    last = next(batches)
    gc.collect()
    assert gone() is None
    assert len(list(zip(*first))) + len(list(zip(*last))) == 200


def test_a_copy_is_let_go_of_as_it_is_handed_out() -> None:
    base = torch.zeros(4 * 3, dtype=torch.uint8)
    (batch,) = _batches.copies(Torch(torch.device("cpu")), base, [Run(["a", "b", "c"], BYTES, 0)])
    seen: list[Any] = []
    for _, tensor in zip(*batch):
        assert [there() is None for there in seen] == [True] * len(seen)
        seen.append(weakref.ref(tensor))
        del tensor


@pytest.mark.parametrize("batches", [_batches.views, _batches.copies])
def test_a_type_that_is_missing_does_not_cost_the_tensors_before_it(batches: Any) -> None:
    base = torch.arange(12, dtype=torch.uint8)
    found: list[str] = []
    with pytest.raises(UnsupportedDtypeError):
        for batch in batches(Torch(torch.device("cpu")), base, [Run(["a"], BYTES, 0), Run(["b"], NONE, 4)]):
            found += [name for name, _ in zip(*batch)]
    assert found == ["a"]
