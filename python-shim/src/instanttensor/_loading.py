"""Loads under way: waiting for slabs, and handing out their tensors."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from . import _batches, _bridge
from ._bridge import call, keep
from ._capsule import Export
from ._checkpoint import Load
from ._errors import SafetensorError

if TYPE_CHECKING:
    from ._checkpoint import Checkpoint
    from ._frameworks import Framework
    from ._java import JavaCheckpoint, JavaLoad


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


class Begun(NamedTuple):
    """A load that has been started.

    Attributes
    ----------
    load : SlabLoad
    slabs : Slabs
        The load's.
    cap_bytes : int
        A tensor that is larger lies in storage of its own already.
    finish : callable
        Called behind the last tensor.
    """

    load: SlabLoad
    slabs: Slabs
    cap_bytes: int
    finish: Callable[[], None]


def tensors(checkpoint: Checkpoint, begin: Callable[[ExitStack], Begun], *, copy: bool) -> Iterator[tuple[str, Any]]:
    """Yields all tensors of a load, in order. One generator from here to the caller: of what a small tensor takes, a
    second one would be 3 %.

    Parameters
    ----------
    begin : callable
        Starts the load, when its first tensor is asked for, and leaves what ends it.
    copy : bool
        Whether tensors own their storage, or are views of slabs.
    """
    framework = checkpoint.framework
    with ExitStack() as undo:
        begun = begin(undo)
        load, current = begun.load, _CurrentStream(begun.load, framework)
        batches = _made(checkpoint, begun, current, copy=copy)
        # One for each tensor, and so no call of Python's.
        streams = framework.streams()
        made: Any = None
        tensor: Any = None
        try:
            for names, made, owned in batches:
                made_on = stream = current.stream
                for name, tensor, now in zip(names, made, streams):
                    if now != stream:
                        stream = current.follow()
                    if owned and stream != made_on:
                        framework.keep_for_current(tensor)
                    if load.java is None:
                        load.alive()
                    yield name, tensor
                made = tensor = None
        finally:
            # Where the caller leaves early, the slab goes back before its load ends: whoever ends it waits for that.
            made = tensor = None
            batches.close()
        begun.finish()


class _CurrentStream:
    """The caller's current stream, which the present slab is ready for.

    Attributes
    ----------
    stream : int
        As it was when it was last looked at.
    """

    def __init__(self, load: SlabLoad, framework: Framework) -> None:
        self._load = load
        self._framework = framework
        self.stream = 0

    def follow(self) -> int:
        """Looks; where it is another one, that waits for the one before, and the slab for it."""
        now = self._framework.stream()
        if now != self.stream:
            call(self._load.alive().alsoOn, now)
            self._framework.follow(self.stream)
            self.stream = now
        return now


def _made(
    checkpoint: Checkpoint, begun: Begun, current: _CurrentStream, *, copy: bool
) -> Generator[tuple[Iterable[str], Iterable[Any], bool], None, None]:
    """Names and tensors, some at a time; and whether these are copies, made on the current stream."""
    load, framework = begun.load, checkpoint.framework
    stop = 0
    for count, slab_bytes in zip(load.tensor_counts, load.slab_bytes):
        first, stop = stop, stop + count
        base, current.stream = begun.slabs.take()
        # Not before: the engine makes it while the first slab is on its way.
        catalogue = checkpoint.catalogue
        owned = copy and not (count == 1 and slab_bytes > begun.cap_bytes)
        runs = _batches.runs_of(catalogue, catalogue.selected[first:stop], load.offsets(first, stop))
        batches = (_batches.copies if owned else _batches.views)(framework, base, runs)
        # The generator below holds the slab; here nothing may, or it would not come back before the next
        # one is asked for.
        del base
        while True:
            # Before anything is queued for the next ones: copies go to the stream that is current.
            current.follow()
            batch = next(batches, None)
            if batch is None:
                break
            yield *batch, owned
            del batch
        del batches
