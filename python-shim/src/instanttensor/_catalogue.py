"""The tensors of an open checkpoint, as columns."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from itertools import accumulate

from . import _dtypes
from ._bridge import JavaCheckpoint
from ._errors import SafetensorError

_WORD = 8
_HEADER_WORDS = 3


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
        self._index = {self.names[i]: i for i in self.selected}

    def _decode(self, block: bytes) -> None:
        # The layout is that of the engine's CatalogueBlock.
        view = memoryview(block)
        tensors, dims, name_bytes = view[: _HEADER_WORDS * _WORD].cast("q")
        end = (_HEADER_WORDS + 5 * tensors + dims) * _WORD
        dims_at = (_HEADER_WORDS + 5 * tensors) * _WORD
        words = view[_HEADER_WORDS * _WORD : dims_at].cast("q").tolist()
        ordinals = words[:tensors]
        self.sizes: list[int] = words[2 * tensors : 3 * tensors]
        ranks = words[3 * tensors : 4 * tensors]
        lengths = words[4 * tensors : 5 * tensors]
        # Beside a zero, a dimension can be 2**63 and more.
        flat = view[dims_at:end].cast("Q").tolist()
        text = block[end : end + name_bytes].decode()
        name_ends = list(accumulate(lengths))
        dim_ends = list(accumulate(ranks))
        self.names: list[str] = [text[stop - n : stop] for stop, n in zip(name_ends, lengths)]
        self.shapes: list[tuple[int, ...]] = [tuple(flat[stop - n : stop]) for stop, n in zip(dim_ends, ranks)]
        names = _dtypes.NAMES
        self.dtypes: list[str] = [names[ordinal] for ordinal in ordinals]

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
        index = self._index.get(name)
        if index is None:
            raise SafetensorError(f"File does not contain tensor {name}")
        if name in self.duplicates:
            raise SafetensorError(f"tensor {name} is in more than one file of this checkpoint: which one is not known")
        return index

    def __contains__(self, name: object) -> bool:
        return name in self._index

    @property
    def total_bytes(self) -> int:
        """Of the selected tensors."""
        return sum(self.sizes[i] for i in self.selected)
