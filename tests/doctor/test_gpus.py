"""``python -m instanttensor doctor`` of drivers and GPUs, the driver being one over host memory."""

from __future__ import annotations

import ctypes
import re
import shutil
from pathlib import Path

import pytest
import torch
from doctor_runs import WITH_TORCH, ends, found
from instanttensor import _find_java


def test_a_machine_without_a_driver_is_told_so() -> None:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        pass
    else:
        pytest.skip("this machine has an NVIDIA driver")
    text = "There is no NVIDIA driver: libcuda.so.1 could not be loaded: Cannot open library: libcuda.so.1."
    (driver,) = found(0)["driver"]
    assert (driver["level"], driver["text"]) == ("note", text)
    assert driver["facts"] == {"state": "no_driver", "version": None, "cuda": None}
    of = found(1, "--device", "cuda:0", **WITH_TORCH)
    assert (of["driver"][0]["level"], of["driver"][0]["text"]) == ("fail", text)
    assert of["verdict"] == [
        {
            "works": False,
            "device": "cuda:0",
            "verdict": "A load to cuda:0 does not work here; the 2 lines that begin with fail say why.",
        }
    ]


def test_the_gpus_are_listed_with_their_memory(stub: dict[str, str]) -> None:
    lines = ends(0, "--device", "cpu", **stub, STUB_CUDA_DEVICES=2, STUB_CUDA_MEMORY_BYTES=6 << 30)
    assert re.search(r"^ok   NVIDIA driver .*, which offers CUDA 12\.6\.$", "\n".join(lines), re.MULTILINE)
    # Contexts are nobody's business on a GPU that is not asked for.
    for number in range(2):
        assert f"ok   GPU cuda:{number}: Stub GPU {number}, 6 GiB of memory." in lines
    lines = ends(1, "--device", "cuda:1", **stub, STUB_CUDA_DEVICES=2, STUB_CUDA_MEMORY_BYTES=6 << 30)
    assert "ok   GPU cuda:0: Stub GPU 0, 6 GiB of memory." in lines
    assert "ok   GPU cuda:1: Stub GPU 1, 6 GiB of memory, 6 GiB of it free." in lines


def test_a_gpu_that_torch_cannot_use_is_a_failure_unless_the_cpu_is_asked_for(stub: dict[str, str], path: Path) -> None:
    # The stub serves the engine, not torch.
    lines = ends(1, path, **stub, **WITH_TORCH)
    assert (
        f"fail torch cannot use cuda:0, so what follows is for the CPU: device='cuda:0': "
        f"no CUDA driver or no GPU was found (torch {torch.__version__}); use device='cpu'."
    ) in lines or torch.version.cuda is None
    assert f"ok   {path}: loaded its tensor 'a' (4,000 bytes) to cpu in " in "\n".join(lines)
    assert lines[-1] == "fail A load to cuda:0 does not work here; the line that begins with fail says why."
    assert ends(0, "--device", "cpu", path, **stub)[-1] == "ok   A load to cpu works here."


def test_a_driver_that_shows_no_gpu_leaves_the_cpu(stub: dict[str, str]) -> None:
    (driver,) = found(0, **stub, STUB_CUDA_DEVICES=0)["driver"]
    assert driver["level"] == "note"
    assert driver["text"].endswith(", which shows no GPU: cuDeviceGetCount: 0.")
    (driver,) = found(0, **stub, STUB_CUDA_FAIL="cuInit:1:100")["driver"]
    assert driver["text"].endswith(", which shows no GPU: cuInit: CUDA_ERROR_NO_DEVICE (100).")


def test_a_driver_that_does_not_work_is_a_failure(stub: dict[str, str]) -> None:
    of = found(1, **stub, STUB_CUDA_FAIL="cuInit:1:803")
    (driver,) = of["driver"]
    assert driver["level"] == "fail"
    assert driver["text"].endswith(" cannot be used: cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803).")
    assert of["verdict"][0]["device"] == "cuda:0"
    (driver,) = found(0, "--device", "cpu", **stub, STUB_CUDA_FAIL="cuInit:1:803")["driver"]
    assert driver["level"] == "note"


def test_a_gpu_without_room_for_a_context_is_told(stub: dict[str, str]) -> None:
    (gpu,) = found(1, **stub, STUB_CUDA_FAIL="cuDevicePrimaryCtxRetain:1:2")["gpu"]
    assert (gpu["level"], gpu["text"]) == (
        "fail",
        "GPU cuda:0: Stub GPU 0, 4 GiB of memory, which cannot be used: "
        "cuDevicePrimaryCtxRetain of cuda:0: CUDA_ERROR_OUT_OF_MEMORY (2).",
    )


def test_without_jcudas_library_a_gpu_cannot_be_used(stub: dict[str, str], tmp_path: Path) -> None:
    shutil.copy2(_find_java.engine_jar(), tmp_path)
    (driver,) = found(1, **stub, INSTANTTENSOR_ENGINE_DIR=tmp_path)["driver"]
    assert driver["level"] == "fail"
    assert " cannot be used: JCuda's library cannot be loaded: " in driver["text"]
