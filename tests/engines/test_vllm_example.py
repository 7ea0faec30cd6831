"""examples/vllm/load_model.py runs as it is, but for what vLLM takes the machine for."""

from __future__ import annotations

import re
import runpy
import sys
from importlib.metadata import version
from pathlib import Path

import instanttensor
import pytest
from vllm_engine import Opening

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "vllm" / "load_model.py"


@pytest.mark.parametrize(("load_format", "ours"), [("instanttensor", 2), ("safetensors", 0)])
def test_the_example_says_what_it_loaded(
    minilm: Path,
    openings: list[Opening],
    load_format: str,
    ours: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(minilm), "--load-format", load_format])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    first, *loads = capsys.readouterr().out.splitlines()
    versions = f"vLLM {version('vllm')}, instanttensor {instanttensor.__version__}"
    assert first == f"{versions} from {Path(instanttensor.__file__).parent}"
    assert len(loads) == 2
    for number, line in enumerate(loads):
        start = f"load {number + 1}: 104 tensors, 90,856,960 bytes on cpu in "
        assert re.fullmatch(re.escape(start) + r"\d+\.\d{3} s: \d+\.\d\d GB/s", line), line
    assert len(openings) == ours
