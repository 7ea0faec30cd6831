"""Parts of tensors, read without the rest."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from . import _dtypes
from ._errors import SliceIndexError, SliceStepError, SliceTypeError, UnsupportedDtypeError


class TensorSlice:
    """What `safe_open.get_slice` returns: indexed, it reads the rows that the index needs.

    Source: safetensors' PySafeSlice.

    Parameters
    ----------
    name, dtype, shape
        The tensor's, as in the file.
    read_rows : callable
        ``(first, stop) -> array`` of rows along the first dimension.
    read_all : callable
        ``() -> array``.
    own : callable
        From a view to a copy with storage of its own.
    """

    def __init__(
        self,
        name: str,
        dtype: str,
        shape: tuple[int, ...],
        read_rows: Callable[[int, int], Any],
        read_all: Callable[[], Any],
        own: Callable[[Any], Any],
    ) -> None:
        self._name = name
        self._dtype = dtype
        self._shape = shape
        self._read_rows = read_rows
        self._read_all = read_all
        self._own = own

    def get_shape(self) -> list[int]:
        """Its dimensions in elements, as in the file."""
        return list(self._shape)

    def get_dtype(self) -> str:
        """The format's name for its element type, ``"F32"`` for instance."""
        return self._dtype

    def __repr__(self) -> str:
        return f"<slice of {self._name!r}: {self._dtype} {list(self._shape)}>"

    def __getitem__(self, index: Any) -> Any:
        """Reads a part.

        Parameters
        ----------
        index : int, slice, ``...`` or a tuple of these
            Negative numbers count from the end; steps are positive.

        Returns
        -------
        array
            With storage of exactly its size.

        Raises
        ------
        SafetensorError
            An index or slice outside of the tensor (an IndexError too), too many of them, a step that
            is not positive (a ValueError too), or any other kind of index (a TypeError too).
        """
        indexes = self._expand(index)
        selections = [self._check(axis, given) for axis, given in enumerate(indexes)]
        if all(s == slice(0, n, 1) for s, n in zip(selections, self._shape)):
            return self._read_all()
        if self._dtype in _dtypes.PACKED_PAIRS:
            return self._packed(selections)
        first, rows = self._read_needed(selections[0])
        within = (first, *selections[1:])
        part = rows[within]
        whole_rows = all(s == slice(0, n, 1) for s, n in zip(selections[1:], self._shape[1:]))
        # Of one dimension numpy makes a number of its own kind, which is no array.
        if whole_rows and (len(self._shape) > 1 if isinstance(first, int) else first.step == 1):
            return part
        return self._own(part)

    def _read_needed(self, selection: int | slice) -> tuple[int | slice, Any]:
        """The rows between a selection's ends, and the selection among these."""
        if isinstance(selection, int):
            return 0, self._read_rows(selection, selection + 1)
        taken = range(selection.start, selection.stop, selection.step)
        if not taken:
            return slice(0, 0, 1), self._read_rows(0, 0)
        return slice(0, taken[-1] - taken[0] + 1, selection.step), self._read_rows(taken[0], taken[-1] + 1)

    def _packed(self, selections: list[int | slice]) -> Any:
        # The last dimension is halved in what is read, so only whole ones of it can be selected.
        if selections[-1] != slice(0, self._shape[-1], 1):
            raise UnsupportedDtypeError(
                f"tensor {self._name}: {self._dtype} packs two elements a byte, and cannot be sliced "
                f"in its last dimension"
            )
        first, rows = self._read_needed(selections[0])
        within = (first, *selections[1:-1])
        return self._own(rows[within])

    def _expand(self, index: Any) -> list[Any]:
        indexes = list(index) if isinstance(index, tuple) else [index]
        ellipses = [position for position, given in enumerate(indexes) if given is ...]
        if len(ellipses) > 1:
            raise SliceIndexError(f"tensor {self._name}: expected one '...' at most, got {len(ellipses)}")
        missing = len(self._shape) - (len(indexes) - len(ellipses))
        if missing < 0:
            raise SliceIndexError(
                f"tensor {self._name}: expected at most {len(self._shape)} indexes, got {len(indexes) - len(ellipses)}"
            )
        position = ellipses[0] if ellipses else len(indexes)
        return indexes[:position] + [slice(None)] * missing + indexes[position + len(ellipses) :]

    def _check(self, axis: int, given: Any) -> int | slice:
        """An index in 0 … size-1, or a slice with plain numbers."""
        size = self._shape[axis]
        if isinstance(given, slice):
            return self._check_slice(axis, given)
        # What holds one element is a number to Python, a bool too; as an index it would mean something else.
        is_array = getattr(given, "shape", ()) != () or "bool" in str(getattr(given, "dtype", ""))
        if isinstance(given, bool) or is_array:
            raise self._no_index(given)
        try:
            number = operator.index(given)
        except TypeError:
            raise self._no_index(given) from None
        if not -size <= number < size:
            raise SliceIndexError(
                f"tensor {self._name}: index {number} is out of bounds for dimension {axis} of size {size}"
            )
        return number % size

    def _no_index(self, given: Any) -> SliceTypeError:
        found = "a bool" if isinstance(given, bool) else type(given).__name__
        if hasattr(given, "shape"):
            found += f" of shape {list(given.shape)} and {given.dtype}"
        return SliceTypeError(f"tensor {self._name}: expected an int, a slice or '...', got {found}")

    def _check_slice(self, axis: int, given: slice) -> slice:
        size = self._shape[axis]
        for number in (given.start, given.stop, given.step):
            if number is not None and not hasattr(number, "__index__"):
                raise SliceTypeError(f"tensor {self._name}: expected ints in a slice, got {type(number).__name__}")
        step = 1 if given.step is None else operator.index(given.step)
        if step < 1:
            raise SliceStepError(f"tensor {self._name}: expected a positive step in dimension {axis}, got {step}")
        for which, end in (("start", given.start), ("end", given.stop)):
            if end is not None and not -size <= operator.index(end) <= size:
                raise SliceIndexError(
                    f"tensor {self._name}: slice {which} {operator.index(end)} is out of bounds for dimension "
                    f"{axis} of size {size}"
                )
        start, stop, _ = slice(given.start, given.stop).indices(size)
        return slice(start, max(start, stop), step)
