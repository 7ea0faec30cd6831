"""Times the weight iterators of vLLM and SGLang side by side, and prints a table in Markdown.

    python tests/bench/engines.py FOLDER [--cpp-path DIR] [--rounds 3] [--opens 3] [--check]

The engines' own loaders are run, as released: each load format in a process of its own, in turns. Counted is
from the call that makes the iterator to a synchronisation behind the last tensor, every tensor on the GPU: the
engines' safetensors formats yield host memory, which is copied there as a model's parameters would take it.
CUDA's context and our JVM are up before. --cpp-path is a folder with the C++ package instanttensor. --check
compares, once, every tensor of "instanttensor" with that of "safetensors", byte by byte.

vllm and sglang have to be importable, their kernels need not: where those are missing, an engine is imported as
on a machine without a GPU, and then told that there is one.
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import torch
from machine import DEVICE, environment, last_line
from report import table

FORMATS = {
    "ours": ("instanttensor", "InstantTensor for Java"),
    "cpp": ("instanttensor", "InstantTensor (C++)"),
    "safetensors": ("safetensors", "safetensors"),
}
ENGINES = ("vllm", "sglang")


@contextmanager
def hidden_gpu(kernels):
    """While an engine is imported, where the module with its kernels is missing."""
    if importlib.util.find_spec(kernels) is not None:
        yield
        return
    there = torch.cuda.is_available
    torch.cuda.is_available = lambda: False
    try:
        yield
    finally:
        torch.cuda.is_available = there


def vllm(load_format):
    with hidden_gpu("vllm._C"):
        if not torch.cuda.is_available():
            from vllm.third_party import pynvml

            def refuse():
                raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

            pynvml.nvmlInit = refuse
        from vllm.config.load import LoadConfig
        from vllm.model_executor.model_loader import get_model_loader, weight_utils

    if not weight_utils.current_platform.is_cuda():
        platform = type(weight_utils.current_platform)
        platform.is_cuda = lambda self: True
        platform.current_device = lambda self=None: torch.cuda.current_device() if DEVICE == "cuda" else "cpu"
    loader = get_model_loader(LoadConfig(load_format=load_format, use_tqdm_on_load=False))
    return lambda folder: loader._get_weights_iterator(loader.Source(folder, None))


def sglang(load_format):
    with hidden_gpu("sgl_kernel"):
        from sglang.srt import runtime_context
        from sglang.srt.configs.load_config import LoadConfig
        from sglang.srt.model_loader import loader as loaders
        from sglang.srt.model_loader import weight_utils

    platform = weight_utils.current_platform
    if platform.device_type != "cuda":
        platform.device_type = "cuda"
        platform.get_device = lambda index: torch.device(DEVICE, index)
        if DEVICE != "cuda":
            torch.cuda.current_device = lambda: 0
    loader = loaders.get_model_loader(LoadConfig(load_format=load_format))

    def iterate(folder):
        with runtime_context.get_context().override_server_args():
            yield from loader._get_weights_iterator(loader.Source(folder, None))

    return iterate


def synchronize():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def time_one(engine, loader, folder, opens):
    """In this process: one line of JSON."""
    load_format, _ = FORMATS[loader]
    iterate = globals()[engine](load_format)
    torch.zeros(1, device=DEVICE)
    if loader == "ours":
        from instanttensor import _bridge

        _bridge.engine()
    seconds = []
    for _ in range(opens):
        size = 0
        start = time.perf_counter()
        for _, tensor in iterate(folder):
            size += tensor.to(DEVICE).nbytes
        synchronize()
        seconds.append(time.perf_counter() - start)
    version = None
    if load_format == "instanttensor":
        import instanttensor

        version = getattr(instanttensor, "__version__", "of C++")
    print(json.dumps({"bytes": size, "seconds": seconds, "version": version}))


def check(engine, folder):
    """In this process: both iterators, every byte."""
    expected = {name: tensor.cpu() for name, tensor in globals()[engine]("safetensors")(folder)}
    found = 0
    for name, tensor in globals()[engine]("instanttensor")(folder):
        wanted = expected.pop(name)
        assert (tensor.dtype, tensor.shape, tensor.device.type) == (wanted.dtype, wanted.shape, DEVICE), name
        same = torch.equal(tensor.cpu().reshape(-1).view(torch.uint8), wanted.reshape(-1).view(torch.uint8))
        assert same, f"{name} differs"
        found += 1
    assert not expected, f"missing: {sorted(expected)[:5]}"
    print(json.dumps({"tensors": found}))


def child(arguments, loader, *words):
    done = subprocess.run(
        [sys.executable, __file__, str(arguments.folder), *words],
        env=environment(loader, arguments, TQDM_DISABLE="1"),
        capture_output=True, text=True, timeout=arguments.limit, check=False,
    )  # fmt: skip
    if done.returncode:
        return {"error": last_line(done.stderr, f"exit status {done.returncode}")}
    return json.loads(done.stdout.strip().splitlines()[-1])


def report(arguments, figures):
    rows = []
    for (engine, loader), answers in figures.items():
        failed = [answer["error"] for answer in answers if "error" in answer]
        if failed:
            rows.append([engine, FORMATS[loader][1], failed[0], ""])
            continue
        first = statistics.median(answer["bytes"] / answer["seconds"][0] / 1e9 for answer in answers)
        later = [answer["bytes"] / seconds / 1e9 for answer in answers for seconds in answer["seconds"][1:]]
        rows.append([engine, FORMATS[loader][1], f"{first:.1f}", f"{statistics.median(later):.1f}" if later else ""])
    print(table(["engine", "load format", "first load, GB/s", "later loads, GB/s"], rows))


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("folder", type=Path)
    add("--cpp-path", help="a folder with the C++ package")
    add("--engines", default=",".join(ENGINES))
    add("--rounds", type=int, default=3)
    add("--opens", type=int, default=3, help="in one process")
    add("--limit", type=float, default=300, help="seconds that one process may take")
    add("--check", action="store_true")
    add("--one", nargs=2, metavar=("ENGINE", "LOADER"), help=argparse.SUPPRESS)
    add("--check-one", metavar="ENGINE", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.one:
        return time_one(*arguments.one, str(arguments.folder), arguments.opens)
    if arguments.check_one:
        return check(arguments.check_one, str(arguments.folder))
    engines = arguments.engines.split(",")
    if arguments.check:
        for engine in engines:
            print(f"{engine}, every byte as with safetensors: {child(arguments, 'ours', '--check-one', engine)}")
    loaders = [loader for loader in FORMATS if loader != "cpp" or arguments.cpp_path]
    figures = {(engine, loader): [] for engine in engines for loader in loaders}
    for turn in range(arguments.rounds):
        for (engine, loader), answers in figures.items():
            answers.append(child(arguments, loader, "--one", engine, loader, "--opens", str(arguments.opens)))
            print(f"round {turn + 1}: {engine} {loader} {answers[-1]}", file=sys.stderr)
    if arguments.rounds:
        report(arguments, figures)


if __name__ == "__main__":
    main(sys.argv[1:])
