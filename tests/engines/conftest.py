"""The engines as they were released, and a real checkpoint; `make test-engines` says where both are."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from vllm_engine import Opening


def _named(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value or not Path(value).is_dir():
        runner = "these tests are run by `make test-engines`, the others by `make test`"
        raise pytest.UsageError(f"{variable}={value!r} is no folder: {runner}")
    return Path(value)


ENGINES, MINILM = _named("INSTANTTENSOR_TEST_ENGINES"), _named("INSTANTTENSOR_TEST_MODEL")
# Neither shadows the other; for the processes that tests start, too.
PATHS = [str(ENGINES / "vllm"), str(ENGINES / "sglang")]
sys.path[:0] = PATHS
os.environ["PYTHONPATH"] = os.pathsep.join(PATHS)


@pytest.fixture(scope="session")
def engines() -> Path:
    """The folder with a release in each of its folders: vllm, sglang, sglang-0.5.21."""
    return ENGINES


@pytest.fixture(scope="session")
def minilm() -> Path:
    """A folder with a BERT of 90.9 MB: config.json, model.safetensors, and the tokenizer's files."""
    return MINILM


@pytest.fixture
def openings(monkeypatch: pytest.MonkeyPatch) -> list[Opening]:
    """The calls of `instanttensor.safe_open` in vLLM, which takes the host for CUDA meanwhile."""
    # Not for tests of SGLang: vLLM takes seconds to import.
    from vllm_engine import take_the_host_for_cuda, watch

    take_the_host_for_cuda(monkeypatch.setattr)
    return watch(monkeypatch.setattr)
