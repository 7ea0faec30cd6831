"""Loads a model by SGLang's own API with `--load-format instanttensor`, and prints what was loaded and how fast.

Usage: load_model.py --model-path MODEL [any other flag of sglang.launch_server]
"""

from __future__ import annotations

import importlib.metadata
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch
from sglang.srt.configs.device_config import DeviceConfig
from sglang.srt.configs.load_config import LoadConfig
from sglang.srt.configs.model_config import ModelConfig
from sglang.srt.distributed import bootstrap
from sglang.srt.model_loader import get_model_loader
from sglang.srt.runtime_context import SpawnRanks, get_device, get_model, publish
from sglang.srt.server_args import PortArgs, prepare_server_args


def main(flags: list[str]) -> None:
    arguments = prepare_server_args(["--load-format", "instanttensor", *flags])
    arguments.resolve_once()
    publish(arguments, role="scheduler", ranks=SpawnRanks(world_rank=0, gpu_id=0))
    device = get_device().device
    config = ModelConfig.from_server_args(arguments)
    port = PortArgs.init_new(arguments).nccl_port
    bootstrap.init_parallel_runtime(server_args=arguments, device=device, dist_port=port)
    bootstrap.init_layer_runtime(model_config=config)

    settings = get_model()
    load_config = LoadConfig(settings.load_format, settings.download_dir, settings.model_loader_extra_config)
    loader = get_model_loader(load_config, config)
    target = DeviceConfig(device, 0)
    model = loader.initialize_model_for_startup(model_config=config, device_config=target)
    loaded = {"tensors": 0, "bytes": 0}

    def counted(weights: Iterator[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in weights:
            loaded["tensors"] += 1
            loaded["bytes"] += tensor.nbytes
            yield name, tensor

    start = time.perf_counter()
    weights: Any = loader._get_all_weights(config, model)
    loader.load_weights_and_postprocess(model, counted(weights), torch.device(device))
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    print(f"instanttensor {importlib.metadata.version('instanttensor')}, load format {load_config.load_format.value}")
    speed = loaded["bytes"] / seconds / 1e9
    print(f"{type(model).__name__}: {loaded['tensors']:,} tensors, {loaded['bytes']:,} bytes on {device}")
    print(f"{seconds:.2f} s, {speed:.2f} GB/s")


if __name__ == "__main__":
    main(sys.argv[1:])
