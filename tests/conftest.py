"""What tests of all folders share."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from instanttensor import safe_open
from samples import BITS, F6, reading, stored, threads, write

# What a shell starts in the background ignores SIGINT, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Machines that run tests are busy with other things, and the first example starts Java.
settings.register_profile(
    "here", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("here")


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own INSTANTTENSOR_ variables would change what is tested; not those that say where Java is."""
    kept = ("INSTANTTENSOR_JAVA", "INSTANTTENSOR_ENGINE", "INSTANTTENSOR_TEST")
    for name in os.environ:
        if name.startswith("INSTANTTENSOR_") and not name.startswith(kept):
            monkeypatch.delenv(name)


@pytest.fixture
def cuda_device() -> torch.device:
    """A GPU."""
    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA GPU")
    return torch.device("cuda", torch.cuda.current_device())


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """One file with a tensor of each type that torch has, an empty one, a scalar, and metadata."""
    tensors = {f"of.{dtype}": stored(dtype, [3, 4], seed) for seed, dtype in enumerate(BITS) if dtype not in F6}
    tensors |= {"empty": stored("F32", [0, 3]), "scalar": stored("F64", []), "odd": stored("U8", [13])}
    return write(tmp_path / "model.safetensors", tensors, {"format": "pt"}, padding=3)


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Java, up and used: some of its threads start with the first load and stay."""
    path = write(tmp_path_factory.mktemp("engine") / "a.safetensors", {"a": stored("F32", [2])})
    for copy in (True, False):
        with safe_open(path, "pt", copy=copy) as f:
            list(f.tensors())
            f.get_tensor("a")


@pytest.fixture
def nothing_stays(engine: None, tmp_path: Path) -> Iterator[None]:
    """Fails where files of the test's folder stay open, or more threads of the engine stay alive."""
    readers = "instanttenso"
    before = sum(name.startswith(readers) for name in threads())
    yield
    left = "not looked at"
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        open_files = reading(tmp_path)
        more = sum(name.startswith(readers) for name in threads()) - before
        left = f"{open_files} descriptors, {more} more threads of {threads()}"
        if open_files == 0 and more <= 0:
            return
        time.sleep(0.02)
    pytest.fail(f"stayed behind: {left}")


@pytest.fixture
def stub() -> dict[str, str]:
    """Variables under which the CUDA driver is the one over host memory."""
    folder = Path(__file__).resolve().parents[1] / ".build" / "stub-cuda"
    if not (folder / "libcuda.so.1").is_file():
        pytest.fail(f"{folder} holds no libcuda.so.1: `make .build/stub-cuda/libcuda.so.1` makes it")
    return {"LD_LIBRARY_PATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("LD_LIBRARY_PATH"))))}
