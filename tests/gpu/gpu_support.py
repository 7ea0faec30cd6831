"""Checkpoints whose elements tell which tensor they belong to, and what a GPU's memory is used for."""

from __future__ import annotations

import gc
import json
import struct
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
# For other threads to finish what they have begun.
PATIENCE_S = 10
# cuMemGetInfo counts in steps of 2 MiB, and the driver keeps a few of them for itself.
NOISE_BYTES = 6 * MIB


def number(name: str) -> int:
    """What each element of a tensor written by `numbered` is."""
    return int(name[1:]) + 1


def numbered(path: Path, shapes: list[int]) -> Path:
    """A file of flat int32 tensors t0, t1, ...: each is full of its own number, starting from 1."""
    header: dict[str, Any] = {}
    end = 0
    for index, elements in enumerate(shapes):
        header[f"t{index}"] = {"dtype": "I32", "shape": [elements], "data_offsets": [end, end + 4 * elements]}
        end += 4 * elements
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for index, elements in enumerate(shapes):
            file.write(memoryview(np.full(elements, index + 1, np.int32)).cast("B"))
    return path


def total(tensor: torch.Tensor) -> torch.Tensor:
    """The sum of its elements: one kernel, whose result is looked at later."""
    return tensor.sum(dtype=torch.int64)


def check_totals(totals: dict[str, torch.Tensor], shapes: list[int]) -> None:
    """Whether each sum is that of the right tensor's right elements."""
    torch.cuda.synchronize()
    assert list(totals) == [f"t{index}" for index in range(len(shapes))]
    found = {name: int(value) for name, value in totals.items()}
    wrong = [name for index, name in enumerate(found) if found[name] != (index + 1) * shapes[index]]
    assert wrong == []


def check(name: str, tensor: torch.Tensor) -> None:
    """Whether each element of a tensor is right, now."""
    found = [int(value) for value in torch.aminmax(tensor)]
    assert (name, found) == (name, [number(name)] * 2)


def live_exports() -> int:
    """Slabs that Python holds, by the engine's count."""
    from instanttensor import _bridge

    gc.collect()
    return int(_bridge.engine().liveExports())


def outside_torch(device: torch.device) -> int:
    """Bytes of the device that are in use and not in torch's allocator: contexts, kernels, and ours."""
    free, size = torch.cuda.mem_get_info(device)
    return size - free - torch.cuda.memory_reserved(device)


def settled(device: torch.device, expected: int | None = None) -> int:
    """The same once nothing is under way: slabs are given back by another thread.

    With an expected figure, returns as soon as it is reached.
    """
    gc.collect()
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    deadline = time.monotonic() + (0.3 if expected is None else PATIENCE_S)
    while True:
        found = outside_torch(device)
        reached = expected is not None and found <= expected and live_exports() == 0
        if reached or time.monotonic() > deadline:
            return found
        time.sleep(0.02)


class Peak:
    """The most that was in use outside of torch while a block ran, above what was before it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.start = self.highest = settled(device)

    def _watch(self) -> None:
        while not self._over.wait(0.0005):
            self.look()

    def look(self) -> None:
        self.highest = max(self.highest, outside_torch(self._device))

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def bytes(self) -> int:
        return self.highest - self.start
