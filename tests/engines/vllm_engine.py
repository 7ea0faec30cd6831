"""vLLM's own loader on a machine without a GPU: what is patched for it, and what tests ask of it.

Nothing of vLLM's is changed but what it takes the machine for. `HostForCuda` says "CUDA" to the one module
that asks before it calls us; to build a model, the attention layers are given a backend whose kernels
are never called.
"""

from __future__ import annotations

import gc
import hashlib
import json
import random
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import instanttensor
import torch
from instanttensor import _bridge
from samples import Stored, bytes_of, size_of, some_bytes, write
from vllm.config import DeviceConfig, ModelConfig, ParallelConfig, VllmConfig, set_current_vllm_config
from vllm.config.load import LoadConfig
from vllm.distributed.parallel_state import (
    destroy_distributed_environment,
    destroy_model_parallel,
    ensure_model_parallel_initialized,
    init_distributed_environment,
)
from vllm.model_executor.model_loader import get_model_loader, weight_utils
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
from vllm.model_executor.models import ModelRegistry
from vllm.model_executor.models.bert import BertEmbeddingModel

# `monkeypatch.setattr`, which is undone, or `setattr` in a process that is for one test alone.
Replace = Callable[[Any, str, Any], None]
Weights = Iterable[tuple[str, torch.Tensor]]
# name, dtype, shape, digest of the bytes
Seen = tuple[str, str, tuple[int, ...], str]

# Refuses to be one of two that are installed: whose tensors were compared has to be beyond doubt.
assert re.fullmatch(r"0\.2\.2\+java\d+", instanttensor.__version__), instanttensor.__version__


class HostForCuda:
    """The platform that vLLM found, but for two answers."""

    def __init__(self, platform: Any) -> None:
        self._platform = platform

    def __getattr__(self, name: str) -> Any:
        return getattr(self._platform, name)

    def is_cuda(self) -> bool:
        return True

    def current_device(self) -> str:
        return "cpu"


def take_the_host_for_cuda(replace: Replace) -> None:
    """Without this vLLM's iterator raises "InstantTensor requires NVIDIA GPUs"."""
    replace(weight_utils, "current_platform", HostForCuda(weight_utils.current_platform))


@dataclass
class Opening:
    """One call of `instanttensor.safe_open`."""

    files: list[str]
    options: dict[str, Any]
    # From the moment before the file is closed.
    stats: dict[str, Any] = field(default_factory=dict)


def watch(
    replace: Replace,
    before: Callable[[], None] = lambda: None,
    after: Callable[[], None] = lambda: None,
) -> list[Opening]:
    """The calls of `instanttensor.safe_open` from now on, which do what they did.

    Parameters
    ----------
    before, after : callable
        Called around each opening: what happens to the files meanwhile.
    """
    openings: list[Opening] = []

    class Watched(instanttensor.safe_open):
        def __init__(self, files: list[str], **options: Any) -> None:
            before()
            super().__init__(files, **options)
            self.opening = Opening(files, options)
            openings.append(self.opening)
            after()

        def __exit__(self, *_: object) -> None:
            self.opening.stats = self.stats()
            super().__exit__(*_)

    replace(instanttensor, "safe_open", Watched)
    return openings


def loader(load_format: str, local_expert_ids: set[int] | None = None) -> DefaultModelLoader:
    """vLLM's, as a worker gets it; the ids are what it works out for a rank of expert parallelism."""
    found = get_model_loader(LoadConfig(load_format=load_format))
    assert type(found) is DefaultModelLoader
    found.local_expert_ids = local_expert_ids
    return found


def weights(folder: Path, load_format: str, local_expert_ids: set[int] | None = None) -> Iterator[tuple[str, Any]]:
    """vLLM's iterator over a checkpoint."""
    source = DefaultModelLoader.Source(str(folder), None)
    return loader(load_format, local_expert_ids)._get_weights_iterator(source)


def seen(tensors: Weights) -> list[Seen]:
    """All that can be compared, in the order of the names; a name that comes twice is there twice."""
    return sorted(
        (name, str(tensor.dtype), tuple(tensor.shape), hashlib.sha256(bytes_of(tensor)).hexdigest())
        for name, tensor in tensors
    )


def any_bits(dtype: str, shape: list[int], seed: int) -> Stored:
    """A tensor of every bit pattern that the type has, NaNs too."""
    count = size_of(dtype, shape)
    return dtype, shape, some_bytes(count, seed) if dtype == "BOOL" else random.Random(seed).randbytes(count)


def shards(folder: Path, *files: dict[str, Stored]) -> Path:
    """A checkpoint of several files, without an index."""
    folder.mkdir(exist_ok=True)
    for number, tensors in enumerate(files):
        name = f"model-{number + 1:05}-of-{len(files):05}.safetensors"
        write(folder / name, tensors, {"format": "pt"}, padding=number)
    return folder


def index(folder: Path) -> Path:
    """Adds the index of the files that are there."""
    names = {}
    for file in folder.glob("*.safetensors"):
        header = json.loads(file.read_bytes()[8:].split(b"}}", 1)[0] + b"}}")
        names |= {name: file.name for name in header if name != "__metadata__"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return folder


def slabs_held() -> int:
    """Slabs that Python still refers to."""
    gc.collect()
    return int(_bridge.engine().liveExports())


def config(load_format: str, model: ModelConfig | None = None, ranks: int = 1) -> VllmConfig:
    """vLLM's configuration for the host."""
    return VllmConfig(
        device_config=DeviceConfig("cpu"),
        load_config=LoadConfig(load_format=load_format),
        parallel_config=ParallelConfig(tensor_parallel_size=ranks),
        **({} if model is None else {"model_config": model}),
    )


@contextmanager
def world(folder: Path, rank: int = 0, ranks: int = 1) -> Iterator[None]:
    """vLLM's process groups over gloo; tensor parallel where there is more than one rank."""
    with set_current_vllm_config(config("auto", ranks=ranks)):
        init_distributed_environment(ranks, rank, f"file://{folder}/rendezvous", rank, backend="gloo")
        try:
            ensure_model_parallel_initialized(ranks, 1, backend="gloo")
            yield
        finally:
            destroy_model_parallel()
            destroy_distributed_environment()


class Attention(torch.nn.Module):
    """Attention by torch, over the tokens of one text; vLLM's needs its kernels. It has no weights."""

    def __init__(self, heads: int, head_size: int) -> None:
        super().__init__()
        self._heads = (heads, head_size)

    def forward(self, *projections: torch.Tensor) -> torch.Tensor:
        query, key, value = (each.unflatten(1, self._heads).transpose(0, 1)[None] for each in projections)
        found = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        return found[0].transpose(0, 1).flatten(1)


def prepare_bert(replace: Replace) -> None:
    """Lets vLLM build its BERT here, and without a process of its own to look at the class first."""
    replace(ModelRegistry, "models", dict(ModelRegistry.models))
    ModelRegistry.register_model("BertModel", BertEmbeddingModel)
    backend = "vllm.v1.attention.backends.cpu_attn.CPUAttentionBackend"
    platform = type(weight_utils.current_platform._platform)
    replace(platform, "get_attn_backend_cls", classmethod(lambda *_, **__: backend))


def bert(minilm: Path, load_format: str, ranks: int = 1) -> BertEmbeddingModel:
    """vLLM's model with its weights, by the loader's own `load_model`."""
    model_config = ModelConfig(model=str(minilm), runner="pooling", enforce_eager=True, dtype="float32")
    wanted = config(load_format, model_config, ranks)
    with set_current_vllm_config(wanted):
        model = get_model_loader(wanted.load_config).load_model(wanted, model_config)
    assert type(model) is BertEmbeddingModel
    for layer in model.model.encoder.layer:
        attention = layer.attention.self
        attention.attn = Attention(attention.num_heads, attention.head_dim)
    return model


def embed(model: BertEmbeddingModel) -> torch.Tensor:
    """The last layer's output for a text of eight tokens: [8, hidden size]."""
    tokens = torch.tensor([101, 7592, 1010, 2088, 999, 2129, 2024, 102], dtype=torch.int32)
    with set_current_vllm_config(config("auto")), torch.inference_mode():
        return model(tokens, torch.arange(8))
