"""Checkpoints for tests, written byte by byte: nothing here is taken from the library under test."""

from __future__ import annotations

import ctypes
import json
import os
import struct
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32,
    "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
F6 = ("F6_E2M3", "F6_E3M2")

# dtype, shape, bytes
Stored = tuple[str, list[int], bytes]


def size_of(dtype: str, shape: list[int]) -> int:
    """Bytes of such a tensor."""
    bits = BITS[dtype]
    for dim in shape:
        bits *= dim
    return bits // 8


def some_bytes(count: int, seed: int = 0) -> bytes:
    """Bytes that are 0 or 1, so that they are good for a BOOL too, and that differ from place to place."""
    period = bytes(((i * 2654435761 + seed * 40503) >> 7) & 1 for i in range(min(count, 8191)))
    return (period * (count // 8191 + 1))[:count] if count else b""


def stored(dtype: str, shape: list[int], seed: int = 0) -> Stored:
    """A tensor with contents."""
    return dtype, shape, some_bytes(size_of(dtype, shape), seed)


def raw(path: Path, header: str | bytes, data: bytes = b"", *, length: int | None = None) -> Path:
    """Writes a file with any header."""
    encoded = header if isinstance(header, bytes) else header.encode()
    path.write_bytes(struct.pack("<Q", len(encoded) if length is None else length) + encoded + data)
    return path


def header_of(tensors: Mapping[str, Stored], metadata: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The header's JSON, with the tensors' bytes one after the other."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    end = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + len(data)]}
        end += len(data)
    return header


def write(
    path: Path,
    tensors: Mapping[str, Stored],
    metadata: Mapping[str, str] | None = None,
    *,
    padding: int = 0,
    reverse: bool = False,
) -> Path:
    """Writes a checkpoint file.

    `padding` spaces end the header, so that the data can lie at any offset; `reverse` writes the
    header's entries from the last to the first.
    """
    header = header_of(tensors, metadata)
    if reverse:
        header = dict(reversed(header.items()))
    text = json.dumps(header, ensure_ascii=False) + " " * padding
    return raw(path, text, b"".join(data for _, _, data in tensors.values()))


def bytes_of(array: Any) -> bytes:
    """What a tensor or array holds, whatever its type."""
    if not isinstance(array, torch.Tensor):
        return bytes(array.tobytes())
    # A flat copy: of a single element left by a slice, torch keeps the stride, and refuses to view it.
    flat = torch.empty(array.numel(), dtype=array.dtype).copy_(array.reshape(-1))
    return bytes(flat.view(torch.uint8).numpy().tobytes()) if array.numel() else b""


def reading(path: Path) -> int:
    """How many descriptors of this process are open on files below a folder, or on one file."""
    found = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        found += target.startswith(str(path))
    return found


def io_uring() -> bool:
    """Whether this process may have a ring: many containers forbid it."""
    # int io_uring_setup(unsigned int entries, struct io_uring_params *params)
    ring = ctypes.CDLL(None).syscall(425, 1, ctypes.create_string_buffer(120))
    if ring >= 0:
        os.close(ring)
    return ring >= 0


_NEEDS_IO_URING = pytest.mark.skipif(not io_uring(), reason="no io_uring here")
# Every backend that reads files of any device.
READING_BACKENDS = [
    "AIO",
    "AIO_BUFFERED",
    pytest.param("URING", marks=_NEEDS_IO_URING),
    pytest.param("URING_BUFFERED", marks=_NEEDS_IO_URING),
    "MMAP",
]


def threads() -> list[str]:
    """The process's threads, by their names as far as Linux keeps them."""
    names = []
    for number in os.listdir("/proc/self/task"):
        try:
            names.append(Path("/proc/self/task", number, "comm").read_text().strip())
        except OSError:
            continue
    return sorted(names)


def run(script: str, *arguments: str, patience: float = 120, **environment: str) -> str:
    """What a script prints in a Python of its own; it has to end well, and to leave standard error empty."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=patience,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout.strip()
