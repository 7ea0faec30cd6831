"""DLPack capsules around the engine's structs."""

from __future__ import annotations

import ctypes
from typing import Any

_UNUSED = b"dltensor"
# Where a DLManagedTensor keeps its deleter.
_DELETER_OFFSET = 56
_DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_DESTRUCTOR = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)

_new = ctypes.pythonapi.PyCapsule_New
_new.restype = ctypes.py_object
_new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, _DESTRUCTOR]
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_IsValid", ctypes.pythonapi)
)
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


def _destroy(capsule: int) -> None:
    # A consumer renames the capsule when it takes the tensor; one that nobody took is ours to free.
    if _is_valid(capsule, _UNUSED):
        delete(_pointer(capsule, _UNUSED))


# Python calls it for as long as there are capsules: kept here, or it would be collected.
_destroy_callback = _DESTRUCTOR(_destroy)


def delete(managed: int) -> None:
    """Gives a DLManagedTensor back, as its last user."""
    deleter = ctypes.c_void_p.from_address(managed + _DELETER_OFFSET).value
    if deleter:
        _DELETER(deleter)(managed)


def capsule(managed: int) -> Any:
    """A capsule that owns the DLManagedTensor at this address."""
    return _new(managed, _UNUSED, _destroy_callback)


class Exporter:
    """An object with `__dlpack__`, for consumers that take no bare capsule; good for one use."""

    def __init__(self, managed: int) -> None:
        self._capsule = capsule(managed)
        self._managed = managed

    def __dlpack__(self, **_: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        # dlpack.h: the device follows the data pointer.
        kind, ordinal = (ctypes.c_int32 * 2).from_address(self._managed + 8)
        return kind, ordinal
