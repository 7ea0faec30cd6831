"""Checkpoints of known content, scripts in processes of their own, and what a process holds."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

# For a machine with more to do than this; nothing here takes more than a few seconds of its own.
PATIENCE_S = 120
KIB = 1 << 10
TENSOR_BYTES = 100 * KIB


def content(number: int, elements: int = TENSOR_BYTES // 4) -> Any:
    """The elements of tensor `number`: float32, different for each."""
    return np.arange(elements, dtype=np.float32) + 1000 * number


def write(path: Path, count: int, elements: int = TENSOR_BYTES // 4) -> Path:
    """A checkpoint of tensors t000, t001, ...: see `content`."""
    save_file({f"t{n:03}": content(n, elements) for n in range(count)}, path)
    return path


def check(name: str, tensor: Any) -> None:
    """Whether this is the tensor that `write` wrote under that name."""
    array = np.asarray(tensor)
    np.testing.assert_array_equal(array, content(int(name[1:]), array.size))


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Waits for something that other threads do."""
    deadline = time.monotonic() + PATIENCE_S / 2
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {PATIENCE_S / 2} s: {what}")
        time.sleep(0.01)


def live_exports() -> int:
    """Slabs that Python holds, by the engine's count."""
    from instanttensor import _bridge

    gc.collect()
    return int(_bridge.engine().liveExports())


def threads(prefix: str = "") -> list[str]:
    """Names of the process's threads, Java's included. The kernel shortens them."""
    names = []
    for task in os.listdir("/proc/self/task"):
        try:
            names.append(Path(f"/proc/self/task/{task}/comm").read_text().strip())
        except OSError:
            continue  # it has just ended
    return sorted(name for name in names if name.startswith(prefix))


def readers() -> list[str]:
    """Threads of the engine that come with a load and should go with it."""
    return [name for name in threads("instant") if "rea" in name or "open" in name or "head" in name]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# What every script begins with.
PREAMBLE = f"""
import faulthandler, gc, os, sys, threading, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from instanttensor import safe_open
from lifecycle_support import check, descriptors, eventually, live_exports, readers, resident_bytes, threads
"""


def start(
    script: str, *arguments: object, flags: tuple[str, ...] = (), stdin: bool = False, **environment: str
) -> subprocess.Popen[str]:
    """Runs a script; `arguments` are its sys.argv[1:]."""
    return subprocess.Popen(
        [sys.executable, *flags, "-c", PREAMBLE + textwrap.dedent(script), *map(str, arguments)],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    try:
        out, err = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        process.kill()
        out, err = process.communicate()
        pytest.fail(f"the script hung; so far: {out}{err}")
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def run(script: str, *arguments: object, flags: tuple[str, ...] = (), **environment: str) -> str:
    """What a script prints; it has to end well and leave standard error empty."""
    done = finish(start(script, *arguments, flags=flags, **environment))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout.strip()
