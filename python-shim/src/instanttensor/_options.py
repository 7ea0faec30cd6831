"""What `safe_open` can be told: arguments, their environment variables, and what is allowed."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, NamedTuple, TypeAlias

KIB = 1 << 10
MIB = 1 << 20
# As in the engine's PlanLimits; what InstantTensor takes beyond is taken as this, with a warning.
MIN_CHUNK_BYTES = 4 * KIB
MAX_CHUNK_BYTES = 64 * MIB
# Threads; more only fight over the same processors and the same wire. InstantTensor has no limit.
MAX_CONCURRENCY = 256
# As InstantTensor's.
MAX_CHUNK_TAKEN_BYTES = 1024 * MIB
MAX_IO_DEPTH = 1024


class Backend(Enum):
    """InstantTensor's ways of reading a file."""

    AIO = "AIO"
    """Direct reads (past the page cache) by many threads that call pread; the kernel's AIO is not used."""
    AIO_BUFFERED = "AIO_BUFFERED"
    """Buffered reads (through the page cache) by many threads that call pread."""
    URING = "URING"
    """Direct reads by io_uring, with a ring for each reader thread."""
    URING_BUFFERED = "URING_BUFFERED"
    """Buffered reads by io_uring."""
    CUFILE = "CUFILE"
    """Reads to the GPU by libcufile: GPUDirect Storage, or its compatibility mode. Passed over without that library,
    for loads to the host, and for files that it or direct reads do not take."""
    MMAP = "MMAP"
    """The file is mapped, and the kernel copies out of the mapping: one that is cut short is an error, no SIGBUS."""


class BackendPolicy(Enum):
    """Names for several backends at once."""

    BUFFERED = "BUFFERED"
    """URING_BUFFERED, then MMAP, then AIO_BUFFERED, which every system allows."""


# safetensors' names for its own ways.
_ALIASES = {"mmap": Backend.MMAP, "pread": Backend.AIO_BUFFERED}

_POLICIES = {BackendPolicy.BUFFERED: (Backend.URING_BUFFERED, Backend.MMAP, Backend.AIO_BUFFERED)}

BackendCandidate: TypeAlias = Backend | BackendPolicy | str
Progress: TypeAlias = bool | Callable[[int, int], Any]


class Options(NamedTuple):
    """Checked options; None and 0 are "not given"."""

    buffer_bytes: int
    chunk_bytes: int
    readers: int
    reads_in_flight: int
    max_free_mem_usage: float
    backends: tuple[str, ...]

    @classmethod
    def resolve(
        cls,
        *,
        buffer_size: int | None,
        chunk_size: int | None,
        concurrency: int | None,
        io_depth: int | None,
        max_free_mem_usage: float | None,
        backend: BackendCandidate | Iterable[BackendCandidate] | None,
    ) -> Options:
        """Checks the arguments; what is None comes from the environment.

        Raises
        ------
        TypeError, ValueError
            Naming the argument or the variable, what it was and what is allowed.
        """
        chunk_bytes = _at_most(
            MAX_CHUNK_BYTES, "chunk_size", _integer("chunk_size", chunk_size, 1, MAX_CHUNK_TAKEN_BYTES)
        )
        return cls(
            buffer_bytes=_integer("buffer_size", buffer_size, 1, None),
            chunk_bytes=-(-chunk_bytes // MIN_CHUNK_BYTES) * MIN_CHUNK_BYTES,
            # 0 is InstantTensor's way of saying that a backend has no threads of its own.
            readers=_at_most(MAX_CONCURRENCY, "concurrency", _integer("concurrency", concurrency, 0, None)),
            reads_in_flight=_integer("io_depth", io_depth, 1, MAX_IO_DEPTH),
            max_free_mem_usage=_fraction("max_free_mem_usage", max_free_mem_usage),
            backends=_backends(backend),
        )


def _variable(argument: str) -> tuple[str, str | None]:
    name = f"INSTANTTENSOR_{argument.upper()}"
    return name, os.environ.get(name)


def _given(argument: str, value: Any, parse: Callable[[str], Any], expected: str) -> tuple[str, Any]:
    """What messages call it, and the value, else the variable's; None where neither is given."""
    if value is not None:
        return argument, value
    label, text = _variable(argument)
    if text is None:
        return label, None
    try:
        return label, parse(text)
    except ValueError:
        raise ValueError(f"{label}={text!r}: expected {expected}") from None


def _integer(argument: str, given: int | None, least: int, most: int | None) -> int:
    """The value; 0 where none is given."""
    label, value = _given(argument, given, int, "a whole number")
    if value is None:
        return 0
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{label}: expected an int, got {type(value).__name__}")
    number: int = value.__index__()
    if number < least or (most is not None and number > most):
        allowed = f"at least {least}" if most is None else f"{least} to {most}"
        raise ValueError(f"{label}={number}: expected {allowed}")
    if number >= 1 << 63:
        raise ValueError(f"{label}={number}: expected less than 2**63")
    return number


def _at_most(most: int, argument: str, value: int) -> int:
    if value <= most:
        return value
    # In the name of safe_open's caller.
    warnings.warn(f"{argument}={value}: {most} is the most here, and is taken", RuntimeWarning, stacklevel=4)
    return most


def _fraction(argument: str, given: float | None) -> float:
    """The value; 0.0 where none is given."""
    label, value = _given(argument, given, float, "a number")
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{label}: expected a float, got {type(value).__name__}")
    if not math.isfinite(value) or not 0 < value <= 1:
        raise ValueError(f"{label}={value}: expected more than 0 and at most 1")
    return float(value)


def _backends(value: BackendCandidate | Iterable[BackendCandidate] | None) -> tuple[str, ...]:
    label = "backend"
    if value is None:
        label, text = _variable("backend")
        if text is None:
            return ()
        value = [name.strip() for name in text.split(",") if name.strip()]
    if isinstance(value, (str, Enum)):
        value = [value]
    try:
        candidates = list(value)
    except TypeError:
        raise TypeError(
            f"{label}: expected a Backend, a BackendPolicy or several of them, got {type(value).__name__}"
        ) from None
    if not candidates:
        raise ValueError(f"{label} is empty: expected at least one of {_allowed_backends()}, or None")
    return tuple(backend.name for candidate in candidates for backend in _expand(label, candidate))


def _expand(label: str, candidate: Any) -> tuple[Backend, ...]:
    if isinstance(candidate, str):
        name = candidate.strip()
        if name in BackendPolicy.__members__:
            return _POLICIES[BackendPolicy[name]]
        if name in Backend.__members__ or name in _ALIASES:
            return (_ALIASES.get(name) or Backend[name],)
        raise ValueError(f"{label}={candidate!r}: expected one of {_allowed_backends()}")
    if isinstance(candidate, BackendPolicy):
        return _POLICIES[candidate]
    if isinstance(candidate, Backend):
        return (candidate,)
    raise TypeError(f"{label}: expected a Backend or a BackendPolicy, got {type(candidate).__name__}")


def _allowed_backends() -> str:
    return ", ".join([*Backend.__members__, *BackendPolicy.__members__])
