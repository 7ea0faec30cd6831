"""From the engine's exceptions to Python's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from safetensors import SafetensorError

if TYPE_CHECKING:
    from ._java import Engine

__all__ = [
    "SafetensorError",
    "SliceIndexError",
    "SliceStepError",
    "SliceTypeError",
    "UnsupportedDtypeError",
    "about",
    "reraise",
]


class SliceIndexError(SafetensorError, IndexError):
    """An index outside of a tensor's dimension, or one too many."""


class SliceStepError(SafetensorError, ValueError):
    """A slice with a step that is not positive."""


class SliceTypeError(SafetensorError, TypeError):
    """An index of a kind that parts of tensors cannot be read by."""


class UnsupportedDtypeError(SafetensorError, ValueError):
    """An element type that the framework does not have, or cannot do this with."""


@contextmanager
def about(tensor: str) -> Iterator[None]:
    """Adds a tensor's name to what is said of its element type."""
    try:
        yield
    except UnsupportedDtypeError as error:
        raise UnsupportedDtypeError(f"tensor {tensor!r}: {error}") from None


def reraise(engine: Engine, error: BaseException) -> NoReturn:
    """Raises what the engine's exception stands for in Python.

    The Java exception is no cause of it: its text is in the message, and its object would keep the
    engine's memory alive for as long as somebody keeps the traceback.
    """
    # jep maps Java's exceptions to Python's by family, and leaves the object in the arguments.
    thrown = error.args[0] if error.args else None
    if thrown is None or isinstance(thrown, str) or isinstance(error, KeyboardInterrupt):
        raise error
    described = engine.describe(thrown)
    raise _exception(described.kindName(), described.message(), described.errno(), described.file()) from None


def _exception(kind: str, message: str, errno: int, file: str) -> BaseException:
    if kind == "OS":
        # With an errno, OSError becomes FileNotFoundError, PermissionError, ... by itself; it writes the
        # file behind the message.
        return OSError(errno, message.removeprefix(f"{file}: "), file) if errno else OSError(message)
    if kind == "DEVICE_MEMORY":
        import torch

        return torch.OutOfMemoryError(message)
    kinds: dict[str, Any] = {
        "SAFETENSOR": SafetensorError,
        "VALUE": ValueError,
        "HOST_MEMORY": MemoryError,
    }
    error: BaseException = kinds.get(kind, RuntimeError)(message)
    return error
