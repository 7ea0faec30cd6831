"""However a process that used the GPU ends: its own exit status, nothing on standard error, no hang."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from gpu_support import MIB, numbered

PATIENCE_S = 120
OPENED = """
    import gc, os, sys, threading, time, torch
    from instanttensor import safe_open
    path, device, copy = sys.argv[1], sys.argv[2], sys.argv[3] == "copy"
    f = safe_open(path, "pt", device=device, copy=copy, buffer_size=16 << 20)
"""
# What is there when the process ends.
STATES = {
    "live tensors": "tensors = dict(f.tensors())",
    "a load under way": "loading = f.tensors(); name, tensor = next(loading)",
    "work that is queued": """
        sums = []
        for name, tensor in f.tensors():
            torch.cuda._sleep(5_000_000)
            sums.append(tensor.sum())
    """,
    "daemon threads that load": """
        started = threading.Event()
        def load():
            while True:
                with safe_open(path, "pt", device=device, copy=copy, buffer_size=16 << 20) as mine:
                    for _ in mine.tensors():
                        started.set()
        for _ in range(2):
            threading.Thread(target=load, daemon=True).start()
        started.wait()
    """,
}
# How it ends, with which status, and the last line of standard error.
ENDS = {
    "the end of the script": ("", 0, ""),
    "sys.exit": ("sys.exit(3)", 3, ""),
    "an exception": ("raise ValueError('enough')", 1, "ValueError: enough"),
    "SIGTERM": ("os.kill(os.getpid(), 15); time.sleep(30)", -signal.SIGTERM, ""),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """256 tensors of 1 MiB."""
    return numbered(tmp_path_factory.mktemp("ends") / "model.safetensors", [MIB // 4] * 256)


@pytest.mark.parametrize("copy", ["copy", "view"])
@pytest.mark.parametrize(
    ("state", "end"),
    [
        *(("live tensors", end) for end in ENDS),
        *(("a load under way", end) for end in ENDS),
        ("work that is queued", "the end of the script"),
        ("daemon threads that load", "the end of the script"),
        ("daemon threads that load", "an exception"),
    ],
)
def test_the_process_ends_as_it_should(path: Path, cuda_device: torch.device, state: str, end: str, copy: str) -> None:
    text, status, last = ENDS[end]
    script = "\n".join(textwrap.dedent(part) for part in (OPENED, STATES[state], text))
    done = subprocess.run(
        [sys.executable, "-c", script, str(path), str(cuda_device), copy],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    lines = done.stderr.strip().splitlines()
    assert (done.returncode, lines[-1:]) == (status, [last] if last else []), done.stderr
    if last:
        # Its own traceback and nothing else.
        assert lines[0] == "Traceback (most recent call last):", done.stderr
        assert all(line.startswith("  ") for line in lines[1:-1]), done.stderr
    assert done.stdout == ""
