"""What tests of the doctor share."""

from __future__ import annotations

from pathlib import Path

import pytest
from samples import stored, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "model.safetensors", {"a": stored("F32", [1000]), "b": stored("U8", [24])})
