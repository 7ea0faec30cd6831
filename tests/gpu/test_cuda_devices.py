"""How a GPU may be named, and what is said of one that is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from gpu_support import check, numbered
from instanttensor import safe_open


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return numbered(tmp_path / "a.safetensors", [100, 1, 3000])


@pytest.mark.parametrize(
    "form", [0, "cuda", "cuda:0", torch.device("cuda"), torch.device("cuda", 0)], ids=lambda form: repr(form)
)
@pytest.mark.parametrize("copy", [True, False])
def test_all_forms_of_a_device(path: Path, cuda_device: torch.device, form: Any, copy: bool) -> None:
    with safe_open(path, "pt", device=form, copy=copy) as f:
        loaded = {**dict(f.tensors()), "named": f.get_tensor("t0"), "slice": f.get_slice("t2")[:10]}
        assert f.stats()["device"] == "cuda:0"
    assert {tensor.device for tensor in loaded.values()} == {torch.device("cuda", 0)}
    for name in ("t0", "t1", "t2"):
        check(name, loaded[name])


@pytest.mark.parametrize("form", ["cuda:{}", "{}"])
def test_an_ordinal_that_there_is_not(path: Path, cuda_device: torch.device, form: str) -> None:
    count = torch.cuda.device_count()
    device: Any = form.format(count)
    with pytest.raises(RuntimeError) as refused:
        safe_open(path, "pt", device=int(device) if device.isdigit() else device)
    assert str(refused.value) == f"device='cuda:{count}': no such device: this machine has {count}"


@pytest.mark.parametrize("device", range(2))
@pytest.mark.parametrize("copy", [True, False])
def test_torchs_current_device_stays(path: Path, cuda_device: torch.device, device: int, copy: bool) -> None:
    if device >= torch.cuda.device_count():
        pytest.skip(f"this machine has {torch.cuda.device_count()} GPU")
    current = torch.cuda.current_device()
    with safe_open(path, "pt", device=device, copy=copy) as f:
        for name, tensor in f.tensors():
            assert torch.cuda.current_device() == current
            assert tensor.device == torch.device("cuda", device)
            check(name, tensor)
        f.get_tensor("t0"), f.get_slice("t2")[1:5]
    assert torch.cuda.current_device() == current
    assert torch.empty(1, device="cuda").device == torch.device("cuda", current)


def test_cuda_without_a_number_is_the_current_device(path: Path, cuda_device: torch.device) -> None:
    last = torch.cuda.device_count() - 1
    with torch.cuda.device(last), safe_open(path, "pt", device="cuda") as f:
        assert {tensor.device for _, tensor in f.tensors()} == {torch.device("cuda", last)}


def test_the_host_and_the_gpu_take_turns(path: Path, cuda_device: torch.device) -> None:
    with safe_open(path, "pt", device=cuda_device) as on_gpu, safe_open(path, "pt") as on_host:
        for (name, ours), (_, other) in zip(on_gpu.tensors(), on_host.tensors()):
            assert (ours.device, other.device) == (cuda_device, torch.device("cpu"))
            check(name, ours)
            check(name, other)
