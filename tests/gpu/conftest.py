from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def a_gpu() -> None:
    """Skips the whole folder where there is none, before any file is written for it."""
    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA GPU")


@pytest.fixture(autouse=True)
def no_error_is_left_for_the_next_test(cuda_device: torch.device) -> Iterator[None]:
    """A kernel that fails is told by a later call: no later than here."""
    yield
    torch.cuda.synchronize(cuda_device)
