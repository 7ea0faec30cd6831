"""Where the engines and the real checkpoint lie."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ENGINES = os.environ.get("INSTANTTENSOR_ENGINES")
if ENGINES is None:
    collect_ignore_glob = ["test_*"]
else:
    sys.path.insert(0, str(Path(ENGINES, "vllm")))


@pytest.fixture(scope="session")
def engines() -> Path:
    return Path(os.environ["INSTANTTENSOR_ENGINES"])


@pytest.fixture(scope="session")
def minilm() -> Path:
    return Path(os.environ["INSTANTTENSOR_MINILM"])
