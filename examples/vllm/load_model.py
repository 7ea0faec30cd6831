"""Loads a model's weights by vLLM's own loader; prints what was loaded, how fast, and by which instanttensor.

    python load_model.py MODEL [--load-format safetensors] [--times 2]

MODEL is a folder, or a name that vLLM downloads. The tensors are dropped as they come: what is timed is what
`vllm serve MODEL --load-format instanttensor` does from its files to the device, without the model's own copies.
"""

from __future__ import annotations

import argparse
import time
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import instanttensor
import torch
from vllm.config.load import LoadConfig
from vllm.model_executor.model_loader import get_model_loader


def load(model: str, load_format: str) -> str:
    """What one load brought."""
    loader: Any = get_model_loader(LoadConfig(load_format=load_format, use_tqdm_on_load=False))
    # Of a model's configuration the loader asks where it lies; an empty module wants all weights.
    configuration = SimpleNamespace(model=model, revision=None)
    tensors = size = 0
    devices = set()
    start = time.perf_counter()
    for _, tensor in loader.get_all_weights(configuration, torch.nn.Module()):
        tensors += 1
        size += tensor.nbytes
        devices.add(str(tensor.device))
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    rate = size / seconds / 1e9
    return f"{tensors} tensors, {size:,} bytes on {', '.join(sorted(devices))} in {seconds:.3f} s: {rate:.2f} GB/s"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--load-format", default="instanttensor")
    # The first load starts Java.
    parser.add_argument("--times", type=int, default=2)
    arguments = parser.parse_args()
    print(f"vLLM {version('vllm')}, instanttensor {version('instanttensor')} from {instanttensor.__path__[0]}")
    for number in range(arguments.times):
        print(f"load {number + 1}: {load(arguments.model, arguments.load_format)}")


if __name__ == "__main__":
    main()
