"""Loads under way: waiting for slabs, and turning them into tensors."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from . import _bridge
from ._bridge import JavaOwner, call, keep
from ._capsule import Export
from ._errors import SafetensorError, about

if TYPE_CHECKING:
    from ._catalogue import Catalogue
    from ._distributed import Group
    from ._frameworks import Framework
    from ._java import JavaCheckpoint, JavaLoad

# Copies are made in groups, which is cheaper than one by one; a group is what lies ready for the
# caller at most, in tensors and in bytes.
_GROUP_TENSORS = 64
_GROUP_BYTES = 64 << 20


class SlabLoad(JavaOwner):
    """A load into slabs of the engine's: what lies where, and the slabs as they come."""

    def __init__(self, java: JavaLoad) -> None:
        super().__init__(java)
        # The layout is that of the engine's PythonLoad.
        int64 = ctypes.c_int64
        address = java.layoutAddress()
        slabs = int64.from_address(address).value
        numbers = list((int64 * (3 * slabs)).from_address(address + 8))
        self.tensor_counts: list[int] = numbers[0::3]
        self.slab_bytes: list[int] = numbers[1::3]
        tensors = sum(self.tensor_counts)
        self.offsets: list[int] = list((int64 * tensors).from_address(address + 8 * (1 + 3 * slabs)))

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
            java = self.alive()
            keep(polled, java.poll, stream, _bridge.WAIT_SLICE_MS)
            if polled[0] != _bridge.NOT_YET:
                break
            polled.clear()
            waiting(java.stagedBytes())
        if polled[0] <= _bridge.EMPTY:
            polled.clear()
        waiting(java.stagedBytes())


def start(java: JavaCheckpoint, selected: Sequence[int], options: Any) -> SlabLoad:
    """Starts loading tensors, given by ascending indexes, into slabs."""
    indexes, address, count = _as_taken(selected)
    return _started(java.load, address, count, options)


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


def cap_bytes(java: JavaCheckpoint, selected: Sequence[int], options: Any) -> int:
    """What such a load would hold at most in slabs that no tensor refers to."""
    indexes, address, count = _as_taken(selected)
    return int(call(java.capBytes, address, count, options))


def tensors(
    load: SlabLoad,
    catalogue: Catalogue,
    selected: Sequence[int],
    framework: Framework,
    *,
    copy: bool,
    cap_bytes: int,
    group: Group | None,
    waiting: Callable[[int], None],
) -> Iterator[tuple[str, Any]]:
    """Yields all tensors of a load, in order.

    Parameters
    ----------
    copy : bool
        Whether tensors own their storage, or are views of slabs.
    cap_bytes : int
        A tensor that is larger lies in storage of its own already.
    group : Group or None
        Ranks that read a part of each slab.
    """
    order = iter(zip(selected, load.offsets))
    for count, slab_bytes in zip(load.tensor_counts, load.slab_bytes):
        entries = list(islice(order, count))
        stream = framework.stream()
        base = _next_base(load, slab_bytes, stream, framework, group, waiting)
        owned = copy and not (count == 1 and slab_bytes > cap_bytes)
        views = _views(framework, base, catalogue, entries)
        # The generator below holds the views; here nothing may, or the slab would not come back
        # before the next one is asked for.
        del base
        source = _owned(framework, views, catalogue) if owned else views
        while True:
            # Before anything is queued for the next one: copies go to the stream that is current.
            now = framework.stream()
            if now != stream:
                call(load.alive().alsoOn, now)
                framework.follow(stream)
                stream = now
            found = next(source, None)
            if found is None:
                break
            load.alive()
            yield catalogue.names[found[0]], found[1]
            del found
        del views, source


def _next_base(
    load: SlabLoad,
    slab_bytes: int,
    stream: int,
    framework: Framework,
    group: Group | None,
    waiting: Callable[[int], None],
) -> Any:
    """The bytes of the next slab, complete; None for one without any."""
    export = Export()
    try:
        if group is None:
            load.next_slab(export, stream, waiting)
        else:
            group.together(lambda: load.next_slab(export, stream, waiting), "to load its part", lambda _: None)
        if not export.address:
            return None
        base = framework.wrap(export)
    finally:
        export.give_back()
    if group is not None:
        group.gather(framework.as_torch(base))
        # What fills up the last rank's part is nobody's.
        base = base[:slab_bytes]
    return base


def _views(
    framework: Framework, base: Any, catalogue: Catalogue, entries: list[tuple[int, int]]
) -> Iterator[tuple[int, Any]]:
    """Indexes and tensors that lie in one slab, without a copy."""
    typed: dict[str, Any] = {}
    position = 0
    while position < len(entries):
        index, offset = entries[position]
        dtype, shape = catalogue.dtypes[index], catalogue.shapes[index]
        count = 1
        with about(catalogue.names[index]):
            if catalogue.sizes[index] == 0:
                alike: Sequence[Any] = (framework.empty(dtype, shape),)
            else:
                if dtype not in typed:
                    typed[dtype] = framework.typed(base, dtype)
                count = _equal_neighbours(catalogue, entries, position)
                alike = framework.views(typed[dtype], dtype, shape, offset, count)
        for (index, _), tensor in zip(entries[position : position + count], alike):
            yield index, tensor
        position += count


def _equal_neighbours(catalogue: Catalogue, entries: list[tuple[int, int]], position: int) -> int:
    """How many tensors from here on have one type and shape and lie side by side: experts, mostly."""
    dtypes, shapes = catalogue.dtypes, catalogue.shapes
    first, offset = entries[position]
    dtype, shape, size = dtypes[first], shapes[first], catalogue.sizes[first]
    stop = position
    while stop < len(entries):
        index, start = entries[stop]
        if start != offset or shapes[index] != shape or dtypes[index] != dtype:
            break
        offset += size
        stop += 1
    return stop - position


def _owned(framework: Framework, views: Iterator[tuple[int, Any]], catalogue: Catalogue) -> Iterator[tuple[int, Any]]:
    """The same with storage of their own, copied in groups."""
    sizes = catalogue.sizes
    while True:
        indexes: list[int] = []
        group: list[Any] = []
        group_bytes = 0
        for index, view in views:
            indexes.append(index)
            group.append(view)
            group_bytes += sizes[index]
            if len(group) == _GROUP_TENSORS or group_bytes >= _GROUP_BYTES:
                break
        if not group:
            return
        copies = framework.own(group)
        made_on = framework.stream()
        # Dropped before the caller sees the last copy: the slab goes back as early as it can.
        group.clear()
        del view
        # From the end, so that the list lets go of each tensor as it is handed out.
        copies.reverse()
        for index in indexes:
            if framework.stream() != made_on:
                framework.keep_for_current(copies[-1])
            yield index, copies.pop()
