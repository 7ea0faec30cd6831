"""Slabs and tensors as numpy's, on the host."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any

from . import _dtypes
from ._capsule import Export, Exporter

if TYPE_CHECKING:
    import torch

    from ._catalogue import Kind, Run

_NO_STREAM = 0


class _Writable:
    """Memory that numpy calls read-only, as it does all of DLPack's; nobody else writes to it, and a
    tensor of torch's in the same place can be written to. Kept alive by what is made of this."""

    def __init__(self, locked: Any) -> None:
        self._locked = locked
        self.__array_interface__ = {**locked.__array_interface__, "data": (locked.ctypes.data, False)}


class Numpy:
    """Arrays on the host."""

    ordinal = -1
    label = "cpu"
    device = "cpu"

    def __init__(self) -> None:
        import numpy

        self._numpy = numpy

    def stream(self) -> int:
        return _NO_STREAM

    def streams(self) -> Iterator[int]:
        return repeat(_NO_STREAM)

    def follow(self, stream: int) -> None:
        """The host has no streams."""

    def keep_for_current(self, array: Any) -> None:
        """The host has no streams."""

    def wrap(self, export: Export) -> Any:
        address = export.address[0]
        locked = export.hand_over(lambda capsule: self._numpy.from_dlpack(Exporter(capsule, address)))
        return self._numpy.asarray(_Writable(locked))

    def as_torch(self, base: Any) -> torch.Tensor:
        import torch

        return torch.from_numpy(base)

    def check(self, kind: Kind) -> None:
        _dtypes.numpy_dtype(kind.dtype)

    def views(self, base: Any, runs: Sequence[Run]) -> Iterable[Any]:
        for names, (dtype, shape, size), offset in runs:
            element = _dtypes.numpy_dtype(dtype)
            stop = offset + size * len(names)
            if shape:
                yield from base[offset:stop].view(element).reshape(len(names), *shape)
            else:
                for at in range(offset, stop, size):
                    yield base[at : at + size].view(element).reshape(())

    def empty(self, dtype: str, shape: tuple[int, ...]) -> Any:
        return self._numpy.empty(shape, dtype=_dtypes.numpy_dtype(dtype))

    def address(self, array: Any) -> int:
        return int(array.ctypes.data)

    def copies(self, base: Any, runs: Sequence[Run]) -> list[Any]:
        return [view.copy() for view in self.views(base, runs)]

    def own(self, view: Any) -> Any:
        return self._numpy.array(view)

    def dtype(self, name: str) -> Any:
        return _dtypes.numpy_dtype(name)

    def shape(self, dtype: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape
