"""The tensors of an open checkpoint, as columns."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from itertools import accumulate
from typing import TYPE_CHECKING

from . import _dtypes
from ._errors import SafetensorError

if TYPE_CHECKING:
    from ._java import JavaCheckpoint

_WORD = 8
_HEADER_WORDS = 4
_COLUMNS = 4
_UNSIGNED = (1 << 64) - 1


class Catalogue:
    """Names, dtypes, shapes and sizes, in the checkpoint's order: file, offset, name.

    Attributes
    ----------
    names : list of str
        A name stands twice where two files hold it.
    dtypes : list of str
        As the format names them.
    shapes : list of tuple of int
        In elements, as in the file.
    sizes : list of int
        In bytes.
    selected : list of int
        Indexes of the tensors that the filter selects.
    """

    def __init__(self, java: JavaCheckpoint, matches: Callable[[str], bool] | None) -> None:
        self._decode(ctypes.string_at(java.catalogueAddress(), java.catalogueBytes()))
        java.forgetCatalogue()
        self.duplicates = frozenset(java.duplicates())
        everything = range(len(self.names))
        self.selected = [i for i in everything if matches(self.names[i])] if matches else list(everything)
        self._index: dict[str, int] | None = None

    def _decode(self, block: bytes) -> None:
        # The layout is that of the engine's CatalogueBlock.
        view = memoryview(block)
        tensors, shapes, dims, name_bytes = view[: _HEADER_WORDS * _WORD].cast("q")
        end = (_HEADER_WORDS + _COLUMNS * tensors + shapes + dims) * _WORD
        words = view[_HEADER_WORDS * _WORD : end].cast("q").tolist()
        ordinals, sizes, shape_numbers, lengths = (words[i * tensors : (i + 1) * tensors] for i in range(_COLUMNS))
        ranks = words[_COLUMNS * tensors : _COLUMNS * tensors + shapes]
        # Beside a zero, a dimension can be 2**63 and more.
        flat = [dim & _UNSIGNED for dim in words[_COLUMNS * tensors + shapes :]]
        text = block[end : end + name_bytes].decode()
        different = [tuple(flat[stop - n : stop]) for stop, n in zip(accumulate(ranks), ranks, strict=True)]
        stops = accumulate(lengths)
        self.names: list[str] = [text[stop - n : stop] for stop, n in zip(stops, lengths, strict=True)]
        self.shapes: list[tuple[int, ...]] = list(map(different.__getitem__, shape_numbers))
        self.sizes: list[int] = sizes
        self.dtypes: list[str] = list(map(_dtypes.NAMES.__getitem__, ordinals))

    def find(self, name: str) -> int:
        """The index of a selected tensor.

        Raises
        ------
        TypeError
            Where `name` is no str.
        SafetensorError
            Where there is no such tensor, or more than one.
        """
        if not isinstance(name, str):
            raise TypeError(f"name: expected a str, got {type(name).__name__}")
        index = self._by_name().get(name)
        if index is None:
            raise SafetensorError(f"File does not contain tensor {name}")
        if name in self.duplicates:
            raise SafetensorError(f"tensor {name} is in more than one file of this checkpoint: which one is not known")
        return index

    def __contains__(self, name: object) -> bool:
        return name in self._by_name()

    def _by_name(self) -> dict[str, int]:
        # Whoever takes all tensors in order never asks.
        if self._index is None:
            self._index = {self.names[i]: i for i in self.selected}
        return self._index

    @property
    def total_bytes(self) -> int:
        """Of the selected tensors."""
        return sum(self.sizes[i] for i in self.selected)
