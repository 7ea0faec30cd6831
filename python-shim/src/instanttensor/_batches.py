"""Tensors of a slab, some at a time: which lie side by side, and views or copies of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any, TypeAlias

from ._catalogue import LONG_RUN, Run
from ._errors import UnsupportedDtypeError, about

if TYPE_CHECKING:
    from ._catalogue import Catalogue
    from ._frameworks import Framework

# Copies are made in groups, which is cheaper than one by one; a group is what lies ready for the
# caller at most, in tensors and in bytes.
_GROUP_TENSORS = 128
_GROUP_BYTES = 64 << 20
# Of short runs, so many are prepared before the first tensor of them is seen.
_STRETCH_RUNS = 1024

# Names, and as many tensors, made as they are asked for.
Batch: TypeAlias = tuple[Iterable[str], Iterable[Any]]


def runs_of(catalogue: Catalogue, indexes: Sequence[int], offsets: Sequence[int]) -> Iterator[Run]:
    """The tensors of a slab, in as few runs as there can be: experts have many neighbours alike."""
    names, kinds = catalogue.columns(indexes)
    first = 0
    for number, alike in kinds:
        kind = catalogue.kinds[number]
        stop = first + alike
        while first < stop:
            count = _side_by_side(offsets[first:stop], kind.size)
            yield Run(names[first : first + count], kind, offsets[first])
            first += count


def _side_by_side(offsets: Sequence[int], size: int) -> int:
    """How many of the tensors that start there follow each other without a gap."""
    count = len(offsets)
    # None begins before the one before it ends: where the last is where it would be, all are.
    if size == 0 or offsets[-1] - offsets[0] == size * (count - 1):
        return count
    expected = range(offsets[0], offsets[0] + size * count, size)
    return next(i for i, (offset, there) in enumerate(zip(offsets, expected)) if offset != there)


def views(framework: Framework, base: Any, runs: Iterable[Run]) -> Iterator[Batch]:
    """Names and tensors that lie in one slab, without a copy."""
    for stretch in _stretches(framework, runs):
        names = stretch[0].names if len(stretch) == 1 else [name for run in stretch for name in run.names]
        if stretch[0].kind.size:
            yield names, framework.views(base, stretch)
        else:
            yield names, _empty(framework, stretch[0])


def _stretches(framework: Framework, runs: Iterable[Run]) -> Iterator[list[Run]]:
    """Long runs by themselves, since all their tensors can be made at once; short ones together."""
    stretch: list[Run] = []
    for run in runs:
        alone = len(run.names) >= LONG_RUN or run.kind.size == 0
        try:
            _check(framework, run)
        except UnsupportedDtypeError:
            # The tensors before it are not to blame.
            if stretch:
                yield stretch
            raise
        if stretch and (alone or len(stretch) == _STRETCH_RUNS):
            yield stretch
            stretch = []
        if alone:
            yield [run]
        else:
            stretch.append(run)
    if stretch:
        yield stretch


def _check(framework: Framework, run: Run) -> None:
    """Raises where the library has no such tensors."""
    try:
        framework.check(run.kind)
    except UnsupportedDtypeError as error:
        with about(run.names[0]):
            raise error


def _empty(framework: Framework, run: Run) -> list[Any]:
    return [framework.empty(run.kind.dtype, run.kind.shape) for _ in run.names]


def copies(framework: Framework, base: Any, runs: Iterable[Run]) -> Iterator[Batch]:
    """The same with storage of their own, copied in groups."""
    groups = _groups(framework, runs)
    group = next(groups, None)
    failure: UnsupportedDtypeError | None = None
    while group is not None:
        owned = iter(framework.copies(base, [run for run in group if run.kind.size]))
        made: list[Any] = []
        for run in group:
            made.extend(islice(owned, len(run.names)) if run.kind.size else _empty(framework, run))
        del owned
        names = [name for run in group for name in run.names]
        try:
            group = next(groups, None)
        except UnsupportedDtypeError as error:
            # Of a tensor behind those that are there.
            group, failure = None, error
        if group is None:
            # Before the caller sees the last copies: the slab goes back as early as it can.
            del base
        # From the end, so that the list lets go of each tensor as it is handed out.
        made.reverse()
        yield names, map(made.pop, repeat(-1))
    if failure is not None:
        raise failure


def _groups(framework: Framework, runs: Iterable[Run]) -> Iterator[list[Run]]:
    """Runs, cut to what is copied at once."""
    group: list[Run] = []
    tensors = group_bytes = 0
    for run in runs:
        try:
            _check(framework, run)
        except UnsupportedDtypeError:
            # The tensors before it are not to blame.
            if group:
                yield group
            raise
        size = run.kind.size
        first, count = 0, len(run.names)
        while first < count:
            room = _GROUP_TENSORS - tensors
            if size:
                room = min(room, -(-(_GROUP_BYTES - group_bytes) // size))
            names = run.names[first : first + room]
            group.append(Run(names, run.kind, run.offset + first * size))
            first += len(names)
            tensors += len(names)
            group_bytes += size * len(names)
            if tensors == _GROUP_TENSORS or group_bytes >= _GROUP_BYTES:
                yield group
                group = []
                tensors = group_bytes = 0
    if group:
        yield group
