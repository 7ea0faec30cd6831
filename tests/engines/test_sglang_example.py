"""examples/sglang/load_model.py, as it is, on a machine without a GPU."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "sglang" / "load_model.py"

# What this machine is taken for is the wrapper's; the example knows nothing of it.
WRAPPER = """
import runpy, sys
from sglang_engine import as_on_a_gpu
sys.argv = sys.argv[1:]
with as_on_a_gpu():
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


def start(engines: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    here = Path(__file__).parent
    paths = os.pathsep.join(map(str, (engines / "sglang", here, here.parent)))
    command = [sys.executable, "-c", WRAPPER, str(EXAMPLE), *arguments]
    return subprocess.run(
        command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=200, check=False
    )


def test_the_example_says_what_it_loaded_and_how_fast(engines: Path, minilm: Path) -> None:
    done = start(
        engines, "--model-path", str(minilm), "--device", "cpu", "--model-loader-extra-config", '{"concurrency": 2}'
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(
        r"instanttensor 0\.2\.2\+java\d+, load format instanttensor\n"
        r"BertModel: 104 tensors, 90,856,960 bytes on cpu\n"
        r"\d+\.\d\d s, \d+\.\d\d GB/s\n",
        done.stdout,
    ), done.stdout
    assert "Loading safetensors using InstantTensor: 100%" in done.stderr


def test_the_example_fits_on_a_page() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 60
