"""Reads on demand: whole tensors, or rows of one, into memory of their own instead of slabs."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import _bridge
from ._bridge import call, keep
from ._errors import about

if TYPE_CHECKING:
    from ._checkpoint import Checkpoint
    from ._java import JavaLoad

# Memory of callers who left before the engine's last read into it had come back from the kernel.
_undrained: list[tuple[JavaLoad, Sequence[Any]]] = []


def whole(checkpoint: Checkpoint, indexes: Sequence[int]) -> list[Any]:
    """Tensors, given by their indexes, all of them in one load."""
    catalogue = checkpoint.catalogue
    arrays = [_empty(checkpoint, index, catalogue.shapes[index]) for index in indexes]
    into(checkpoint, [(i, 0, catalogue.sizes[i], target) for i, target in zip(indexes, arrays)])
    return arrays


def rows(checkpoint: Checkpoint, index: int, first: int, stop: int) -> Any:
    """A part of a tensor, cut along its first dimension."""
    catalogue = checkpoint.catalogue
    shape = catalogue.shapes[index]
    target = _empty(checkpoint, index, (stop - first, *shape[1:]))
    size = catalogue.sizes[index] // shape[0] if shape[0] else 0
    into(checkpoint, [(index, first * size, (stop - first) * size, target)])
    return target


def _empty(checkpoint: Checkpoint, index: int, shape: tuple[int, ...]) -> Any:
    catalogue = checkpoint.catalogue
    with about(catalogue.names[index]):
        return checkpoint.framework.empty(catalogue.dtypes[index], shape)


def into(checkpoint: Checkpoint, targets: Sequence[tuple[int, int, int, Any]]) -> None:
    """Reads ranges of tensors into arrays, and returns when their bytes are there (on a GPU: will be,
    for whatever the current stream does next).

    Parameters
    ----------
    targets : sequence of (index, offset, bytes, array)
        Of a tensor, from an offset in bytes on; empty ones are left out.
    """
    java, framework = checkpoint.alive(), checkpoint.framework
    _forget_drained()
    numbers = array("q")
    for index, offset, size, target in targets:
        if size:
            numbers.extend((index, offset, size, framework.address(target)))
    if not numbers:
        return
    options = checkpoint.load_options()
    stream = framework.stream()
    started: list[JavaLoad] = []
    try:
        keep(started, java.loadInto, numbers.buffer_info()[0], len(numbers) // 4, stream, options)
        patience = _bridge.Patience()
        while call(started[0].pollInto, stream, _bridge.WAIT_SLICE_MS) != _bridge.EXHAUSTED:
            patience.look()
    except BaseException:
        for load in started:
            load.close()
            if not load.drained(0):
                # A read into this memory has not come back yet. It must not be used for anything else.
                held = [target for *_, target in targets]
                # Not even the end of the process frees it, which empties all lists.
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(held))
                _undrained.append((load, held))
        raise
    checkpoint.totals.add(started[0])
    started[0].close()


def _forget_drained() -> None:
    # Taken out first: threads come here at once, and each memory may be let go of only once.
    for _ in range(len(_undrained)):
        try:
            load, held = _undrained.pop()
        except IndexError:
            return
        if load.drained(0):
            ctypes.pythonapi.Py_DecRef(ctypes.py_object(held))
        else:
            _undrained.insert(0, (load, held))
