"""DLPack capsules around the engine's structs."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from itertools import starmap
from typing import Any

# Capsules keep these by their address.
_UNUSED = b"dltensor"
_USED = b"used_dltensor"
# Where a DLManagedTensor keeps its deleter.
_DELETER_OFFSET = 56
_DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

_new = ctypes.pythonapi.PyCapsule_New
_new.restype = ctypes.py_object
_new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_is_valid.argtypes = [ctypes.py_object, ctypes.c_char_p]
_set_name = ctypes.pythonapi.PyCapsule_SetName
_set_name.argtypes = [ctypes.py_object, ctypes.c_char_p]


class Export:
    """A slab's DLManagedTensor on its way from the engine to the library that will own it.

    Whoever makes one ends with `give_back`, whatever happens: then no exception, Ctrl-C included,
    loses the slab on the way. (A capsule with a destructor in Python would do the same for all but
    Ctrl-C, which such a function swallows.)

    Attributes
    ----------
    address : list of int
        Empty until the engine has put the struct's address there, or a number that is none: 0 or less.
    """

    def __init__(self) -> None:
        self.address: list[int] = []
        self._capsules: list[Any] = []

    def hand_over(self, consumer: Callable[[Any], Any]) -> Any:
        """What a library makes of it, given a capsule."""
        # Without a moment in which the capsule is nowhere.
        self._capsules.extend(starmap(_new, ((self.address[0], _UNUSED, None),)))
        return consumer(self._capsules[0])

    def give_back(self) -> None:
        """Frees the slab, unless a library has taken it: that renames the capsule."""
        # Ctrl-C may have come before the engine's "not yet" or "no bytes" was taken out again.
        if not self.address or self.address[0] <= 0:
            return
        if not self._capsules:
            _delete(self.address.pop())
        elif _is_valid(self._capsules[0], _UNUSED):
            _set_name(self._capsules[0], _USED)
            _delete(self.address.pop())


def _delete(managed: int) -> None:
    """Gives a DLManagedTensor back, as its last user."""
    deleter = ctypes.c_void_p.from_address(managed + _DELETER_OFFSET).value
    if deleter:
        _DELETER(deleter)(managed)


class Exporter:
    """An object with `__dlpack__`, for consumers that take no bare capsule; good for one use."""

    def __init__(self, capsule: Any, managed: int) -> None:
        self._capsule = capsule
        self._managed = managed

    def __dlpack__(self, **_: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        # dlpack.h: the device follows the data pointer.
        kind, ordinal = (ctypes.c_int32 * 2).from_address(self._managed + 8)
        return kind, ordinal
