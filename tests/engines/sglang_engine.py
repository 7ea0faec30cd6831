"""SGLang's own loaders and models on a machine without a GPU: what is patched for it, and what tests ask of them.

Nothing of SGLang's is changed but what it takes the machine for: the one module that asks, before it calls us,
whether the device is CUDA is told so, and is given the host as device number 0. Its models, its attention in
torch and its groups over gloo run on the host as they are.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import instanttensor
import torch
from samples import bytes_of

with warnings.catch_warnings():
    # Of what it can do on no machine such as this one.
    warnings.simplefilter("ignore")
    from sglang.srt.configs.load_config import LoadConfig
    from sglang.srt.model_loader import get_model_loader, weight_utils
    from sglang.srt.model_loader.loader import DefaultModelLoader
    from sglang.srt.runtime_context import get_context

# Refuses to be one of two that are installed: whose tensors were compared has to be beyond doubt.
assert re.fullmatch(r"0\.2\.2\+java\d+", instanttensor.__version__), instanttensor.__version__

# dtype, shape, bytes
Seen = tuple[str, tuple[int, ...], bytes]


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """SGLang takes the host for a GPU where it is about to call us, and only there."""
    platform = SimpleNamespace(device_type="cuda", get_device=lambda number: torch.device("cpu"))
    with (
        mock.patch.object(weight_utils, "current_platform", platform),
        mock.patch.object(torch.cuda, "current_device", lambda: 0),
    ):
        yield


@contextmanager
def published() -> Iterator[None]:
    """A configuration of the server's, which SGLang's loader reads, for a while."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    try:
        with get_context().override_server_args():
            yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers


def loader(load_format: str = "instanttensor", extra: dict[str, Any] | str | None = None, **settings: Any) -> Any:
    """The loader that SGLang chooses for the format.

    Parameters
    ----------
    extra : dict or str
        As --model-loader-extra-config; a str is JSON, which SGLang parses.
    """
    chosen = get_model_loader(LoadConfig(load_format=load_format, model_loader_extra_config=extra or {}, **settings))
    assert type(chosen) is DefaultModelLoader
    return chosen


def weights(chosen: Any, folder: Path, prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """SGLang's iterator over a folder."""
    iterator: Iterator[tuple[str, torch.Tensor]] = chosen._get_weights_iterator(
        DefaultModelLoader.Source(str(folder), None, prefix)
    )
    return iterator


def seen(tensors: Iterable[tuple[str, torch.Tensor]]) -> dict[str, Seen]:
    """What came, whatever its order; each name once."""
    found: dict[str, Seen] = {}
    for name, tensor in tensors:
        assert name not in found
        assert tensor.device.type == "cpu"
        found[name] = (str(tensor.dtype), tuple(tensor.shape), bytes_of(tensor))
    return found


def by_safetensors(folder: Path, **settings: Any) -> dict[str, Seen]:
    """What SGLang's own safetensors iterator brings."""
    return seen(weights(loader("safetensors", **settings), folder))
