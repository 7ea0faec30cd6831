"""The tensors of an open checkpoint, as columns."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, NamedTuple

from . import _dtypes
from ._bridge import call
from ._errors import SafetensorError

if TYPE_CHECKING:
    from ._java import JavaCheckpoint

_WORD = 8
_HEADER_WORDS = 4
_COLUMNS = 2
_UNSIGNED = (1 << 64) - 1
# From so many neighbours of one kind on, making all of their tensors at once is less work than one by one.
LONG_RUN = 4


class Kind(NamedTuple):
    """What many tensors have in common.

    Attributes
    ----------
    dtype : str
        As the format names it.
    shape : tuple of int
        In elements, as in the file.
    size : int
        In bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    size: int


class Run(NamedTuple):
    """Tensors of one kind that lie side by side in a slab.

    Attributes
    ----------
    names : sequence of str
    kind : Kind
    offset : int
        Of the first, in bytes, a multiple of the element's size.
    """

    names: Sequence[str]
    kind: Kind
    offset: int


def _fetched(java: JavaCheckpoint) -> tuple[bytes, list[str]]:
    """The engine's block, which it then forgets, and the names that two files hold."""
    block = ctypes.string_at(java.catalogueAddress(), java.catalogueBytes())
    java.forgetCatalogue()
    return block, list(java.duplicates())


def _counted(numbers: Iterable[int]) -> list[tuple[int, int]]:
    return [(number, len(list(alike))) for number, alike in groupby(numbers)]


class Catalogue:
    """Names and kinds of tensors, in the checkpoint's order: file, offset, name.

    Attributes
    ----------
    kinds : list of Kind
        The different ones.
    selected : sequence of int
        Indexes of the tensors that the filter selects.
    """

    def __init__(self, java: JavaCheckpoint, matches: Callable[[str], bool] | None) -> None:
        block, duplicates = call(_fetched, java)
        self._decode(block)
        self.duplicates = frozenset(duplicates)
        everything = range(len(self._name_ends))
        self.selected: Sequence[int] = [i for i in everything if matches(self.names[i])] if matches else everything
        self._index: dict[str, int] | None = None

    def _decode(self, block: bytes) -> None:
        # The layout is that of the engine's CatalogueBlock.
        self._block = block
        view = memoryview(block)
        tensors, kinds, dims, name_bytes = view[: _HEADER_WORDS * _WORD].cast("q")
        end = (_HEADER_WORDS + _COLUMNS * tensors + 3 * kinds + dims) * _WORD
        words = view[_HEADER_WORDS * _WORD : end].cast("q")
        self._kind_numbers = words[:tensors]
        self._name_ends = words[tensors : 2 * tensors]
        self._text = view[end : end + name_bytes]
        few = words[2 * tensors :].tolist()
        ordinals, sizes, ranks = (few[i * kinds : (i + 1) * kinds] for i in range(3))
        # Beside a zero, a dimension can be 2**63 and more.
        flat = [dim & _UNSIGNED for dim in few[3 * kinds :]]
        shapes = [tuple(flat[stop - n : stop]) for stop, n in zip(accumulate(ranks), ranks)]
        self.kinds = list(map(Kind, map(_dtypes.NAMES.__getitem__, ordinals), shapes, sizes))

    def columns(self, indexes: Sequence[int]) -> tuple[list[str], list[tuple[int, int]]]:
        """Names of some tensors; and their kinds, as indexes into `kinds`, each with the number of neighbours alike.

        Of tensors side by side they are made now: where 60,000 were made before the first one, they were out of the
        processor's cache by the time they were needed, and each took half a microsecond longer.
        """
        if isinstance(indexes, range):
            first, stop = indexes.start, indexes.stop
            return self._names(first, stop), self._alike(first, stop)
        return [self.names[i] for i in indexes], _counted(self._kind_numbers[i] for i in indexes)

    def _alike(self, first: int, stop: int) -> list[tuple[int, int]]:
        """Of tensors side by side."""
        column = self._block[(_HEADER_WORDS + first) * _WORD : (_HEADER_WORDS + stop) * _WORD]
        if column and column[:-_WORD] == column[_WORD:]:
            # Each is like the next: nobody has to look at them one by one.
            return [(self._kind_numbers[first], stop - first)]
        return _counted(self._kind_numbers[first:stop])

    def _names(self, first: int, stop: int) -> list[str]:
        if first == stop:
            return []
        start = self._name_ends[first - 1] + 1 if first else 0
        names = str(self._text[start : self._name_ends[stop - 1]], "utf-8").split("\0")
        if len(names) != stop - first:
            # A name may hold any character, this one too. Half as fast.
            ends = self._name_ends[first:stop].tolist()
            names = [str(self._text[a:b], "utf-8") for a, b in zip([start, *(end + 1 for end in ends)], ends)]
        return names

    @cached_property
    def names(self) -> list[str]:
        """Of each tensor. A name stands twice where two files hold it."""
        return self._names(0, len(self._name_ends))

    @cached_property
    def dtypes(self) -> list[str]:
        """Of each tensor, as the format names it."""
        return [self.kinds[number].dtype for number in self._kind_numbers]

    @cached_property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of each tensor, in elements, as in the file."""
        return [self.kinds[number].shape for number in self._kind_numbers]

    @cached_property
    def sizes(self) -> list[int]:
        """Of each tensor, in bytes."""
        return [self.kinds[number].size for number in self._kind_numbers]

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
