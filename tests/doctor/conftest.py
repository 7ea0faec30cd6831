"""What tests of the doctor share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from samples import stored, write

STUB = Path(__file__).resolve().parents[2] / ".build" / "stub-cuda"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "model.safetensors", {"a": stored("F32", [1000]), "b": stored("U8", [24])})


@pytest.fixture
def stub() -> dict[str, str]:
    """Variables under which the CUDA driver is the one over host memory."""
    if not (STUB / "libcuda.so.1").is_file():
        pytest.fail(f"{STUB} holds no libcuda.so.1: `make {STUB.relative_to(STUB.parents[1])}/libcuda.so.1` makes it")
    return {"LD_LIBRARY_PATH": os.pathsep.join(filter(None, (str(STUB), os.environ.get("LD_LIBRARY_PATH"))))}
