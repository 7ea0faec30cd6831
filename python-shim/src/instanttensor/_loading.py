"""Loads under way: waiting for slabs, and turning them into tensors."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from . import _bridge
from ._bridge import call, keep
from ._capsule import Export
from ._catalogue import Run
from ._checkpoint import Load
from ._errors import SafetensorError, UnsupportedDtypeError, about
from ._frameworks import LONG_RUN

if TYPE_CHECKING:
    from ._catalogue import Catalogue
    from ._checkpoint import Checkpoint
    from ._frameworks import Framework
    from ._java import JavaCheckpoint, JavaLoad

# Copies are made in groups, which is cheaper than one by one; a group is what lies ready for the
# caller at most, in tensors and in bytes.
_GROUP_TENSORS = 64
_GROUP_BYTES = 64 << 20
# Of short runs, so many are prepared before the first tensor of them is seen.
_STRETCH_RUNS = 1024


# Names, and as many tensors, made as they are asked for.
_Batch: TypeAlias = tuple[Iterable[str], Iterable[Any]]


class Slabs(Protocol):
    """Where slabs come from, one after the other."""

    def take(self) -> tuple[Any, int]:
        """The bytes of the next slab, None for one without any, and the stream that they are ready on."""

    def leave(self, error: BaseException | None = None) -> None:
        """Says that no more are taken, and because of what. Does nothing after the last."""


class SlabLoad(Load):
    """A load into slabs of the engine's: what lies where, and the slabs as they come."""

    def __init__(self, java: JavaLoad) -> None:
        super().__init__(java)
        # The layout is that of the engine's PythonLoad.
        address = java.layoutAddress()
        (slabs,) = _words(address, 1)
        numbers = _words(address + 8, 3 * slabs).tolist()
        self.tensor_counts = numbers[0::3]
        self.slab_bytes = numbers[1::3]
        self._offsets = _words(address + 8 * (1 + 3 * slabs), sum(self.tensor_counts))

        self.slabs: Slabs | None = None
        self._patience = _bridge.Patience()

    def offsets(self, first: int, stop: int) -> Sequence[int]:
        """Where some of the load's tensors lie in their slabs, in bytes; those of a slab ascend."""
        return self._offsets[first:stop]

    def leave(self) -> None:
        if self.slabs is not None:
            self.slabs.leave()

    def alive(self) -> JavaLoad:
        """The Java load.

        Raises
        ------
        SafetensorError
            Where the checkpoint, and the load with it, has been closed.
        """
        java: JavaLoad | None = self.java
        if java is None:
            raise SafetensorError("File is closed")
        return java

    def next_slab(self, export: Export, stream: int, waiting: Callable[[int], None]) -> None:
        """Waits for the next slab; `export` is left empty for one without bytes.

        `waiting` is called with the bytes read so far, while there is no slab yet.
        """
        polled = export.address
        while True:
            self._patience.look()
            java = self.alive()
            keep(polled, java.poll, stream, _bridge.WAIT_SLICE_MS)
            if polled[0] != _bridge.NOT_YET:
                break
            polled.clear()
            waiting(java.stagedBytes())
        if polled[0] <= _bridge.EMPTY:
            polled.clear()
        waiting(java.stagedBytes())


def _words(address: int, count: int) -> memoryview:
    """64-bit numbers of the engine's. A ctypes array would be the same, at twenty times the cost of a list of it."""
    return memoryview(ctypes.string_at(address, 8 * count)).cast("q")


def start(checkpoint: Checkpoint, options: Any) -> SlabLoad:
    """Starts loading the checkpoint's tensors into slabs; without a filter they need not be known for that."""
    if checkpoint.matches is None:
        return start_all(checkpoint.alive(), options)
    indexes, address, count = _as_taken(checkpoint.catalogue.selected)
    return _started(checkpoint.alive().load, address, count, options)


def start_all(java: JavaCheckpoint, options: Any) -> SlabLoad:
    """Starts loading all tensors into slabs."""
    return _started(java.loadAll, options)


def _as_taken(selected: Sequence[int]) -> tuple[array[int], int, int]:
    """Indexes as the engine takes them: an address and a count, good for as long as the array is there."""
    indexes = array("i", selected)
    return indexes, *indexes.buffer_info()


def _started(function: Any, *arguments: Any) -> SlabLoad:
    started: list[JavaLoad] = []
    try:
        keep(started, function, *arguments)
        return SlabLoad(started[0])
    except BaseException:
        for load in started:
            load.close()
        raise


def cap_bytes(checkpoint: Checkpoint) -> int:
    """What a load would hold at most in slabs that no tensor refers to, going by the memory that is free now."""
    java, options = checkpoint.alive(), checkpoint.load_options()
    if checkpoint.matches is None:
        return int(call(java.capBytesOfAll, options))
    indexes, address, count = _as_taken(checkpoint.catalogue.selected)
    return int(call(java.capBytes, address, count, options))


def tensors(
    load: SlabLoad, checkpoint: Checkpoint, *, copy: bool, cap_bytes: int, slabs: Slabs
) -> Iterator[tuple[str, Any]]:
    """Yields all tensors of a load, in order.

    Parameters
    ----------
    copy : bool
        Whether tensors own their storage, or are views of slabs.
    cap_bytes : int
        A tensor that is larger lies in storage of its own already.
    slabs : Slabs
        The load's.
    """
    framework = checkpoint.framework
    # One for each tensor, and so no call of Python's.
    streams = framework.streams()
    stop = 0
    for count, slab_bytes in zip(load.tensor_counts, load.slab_bytes):
        first, stop = stop, stop + count
        base, stream = slabs.take()
        # Not before: the engine makes it while the first slab is on its way.
        catalogue = checkpoint.catalogue
        owned = copy and not (count == 1 and slab_bytes > cap_bytes)
        runs = _runs(catalogue, catalogue.selected[first:stop], load.offsets(first, stop))
        batches = (_copies if owned else _views)(framework, base, runs)
        # The generator below holds the slab; here nothing may, or it would not come back before the next
        # one is asked for.
        del base
        while True:
            # Before anything is queued for the next ones: copies go to the stream that is current.
            made_on = stream = _followed(load, framework, stream)
            batch = next(batches, None)
            if batch is None:
                break
            for name, tensor, now in zip(*batch, streams):
                if now != stream:
                    stream = _followed(load, framework, stream)
                if owned and stream != made_on:
                    framework.keep_for_current(tensor)
                if load.java is None:
                    load.alive()
                yield name, tensor
            del batch, tensor
        del batches


def _followed(load: SlabLoad, framework: Framework, stream: int) -> int:
    """The current stream; where it is not the one that it was, it waits for that, and the slab for it."""
    now = framework.stream()
    if now != stream:
        call(load.alive().alsoOn, now)
        framework.follow(stream)
    return now


def _runs(catalogue: Catalogue, indexes: Sequence[int], offsets: Sequence[int]) -> Iterator[Run]:
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


def _views(framework: Framework, base: Any, runs: Iterable[Run]) -> Iterator[_Batch]:
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


def _copies(framework: Framework, base: Any, runs: Iterable[Run]) -> Iterator[_Batch]:
    """The same with storage of their own, copied in groups."""
    groups = _groups(framework, runs)
    group = next(groups, None)
    failure: UnsupportedDtypeError | None = None
    while group is not None:
        owned = iter(framework.copies(base, [run for run in group if run.kind.size]))
        copies: list[Any] = []
        for run in group:
            copies.extend(islice(owned, len(run.names)) if run.kind.size else _empty(framework, run))
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
        copies.reverse()
        yield names, map(copies.pop, repeat(-1))
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
