"""Adds ``--load-format instanttensor`` to SGLang releases that have plugins and not this format: 0.5.11 to 0.5.21.

SGLang calls `register` at its start, in the launching process and in every scheduler, before it reads its
arguments; later releases have the format themselves, and there this does nothing. What a server with
another format runs stays as it was: SGLang's loader is touched when the first ``LoadConfig`` asks for ours.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TypeAlias

    import torch

    Weights: TypeAlias = Iterator[tuple[str, torch.Tensor]]

FORMAT = "instanttensor"
_LOADER = "sglang.srt.model_loader.loader"
_DOES_NOT_FIT = (
    "instanttensor's plugin does not fit this release of SGLang: it does not read safetensors files the way "
    "that 0.5.11 to 0.5.21 do. Use another --load-format"
)


class _Request:
    """One call of SGLang's loader on our behalf: the options, and whether it came to our iterator."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.is_taken = False


_hooked: set[str] = set()
_request: ContextVar[_Request | None] = ContextVar("_request", default=None)


def register() -> None:
    """The entry point in SGLang's group ``sglang.srt.plugins``."""
    try:
        from sglang.srt.server_args import LOAD_FORMAT_CHOICES, add_load_format_choices
    except ImportError:
        return  # a later release: it has the format
    if FORMAT in LOAD_FORMAT_CHOICES:
        return
    add_load_format_choices([FORMAT])
    _hook("sglang.srt.configs.load_config.LoadConfig._verify_load_format", _accept)


def _hook(target: str, around: Callable[..., Any]) -> None:
    from sglang.srt.plugins.hook_registry import HookRegistry, HookSource, HookType

    if target in _hooked:
        return
    source = HookSource(FORMAT, FORMAT)
    if target in HookRegistry._patched:
        # Hooks of another plugin are in place, and SGLang applies those of a target once.
        HookRegistry._apply_target(target, [(HookType.AROUND, around, source)])
    else:
        HookRegistry.register(target, around, HookType.AROUND, source=source)
    _hooked.add(target)


# --------------------------------------------------------------------- hooks: (what SGLang has, its arguments)


def _accept(verify: Callable[[Any], None], config: Any) -> None:
    """``LoadConfig._verify_load_format``: our format stays a string, which equals none of SGLang's own."""
    name = config.load_format
    if not isinstance(name, str) or name.lower() != FORMAT:
        return verify(config)
    config.load_format = FORMAT
    _hook(f"{_LOADER}.DefaultModelLoader.__init__", _init)
    _hook(f"{_LOADER}.DefaultModelLoader._prepare_weights", _prepare)
    _hook(f"{_LOADER}.DefaultModelLoader._get_weights_iterator", _iterate)
    _hook(f"{_LOADER}.safetensors_weights_iterator", _replace)

    from sglang.srt.plugins.hook_registry import HookRegistry

    HookRegistry.apply_hooks()
    # What could not be applied SGLang has only logged.
    if not _hooked <= HookRegistry._patched:
        raise RuntimeError(_DOES_NOT_FIT)


def _init(init: Callable[..., None], loader: Any, load_config: Any) -> None:
    """``DefaultModelLoader.__init__`` knows the options of its own formats, and refuses others."""
    if load_config.load_format != FORMAT:
        return init(loader, load_config)
    init(loader, _as_safetensors(load_config))
    loader.load_config = load_config


def _prepare(prepare: Callable[..., Any], loader: Any, *args: Any, **kwargs: Any) -> Any:
    """``DefaultModelLoader._prepare_weights``: which files, and are they here."""
    return prepare(_stand_in(loader) if loader.load_config.load_format == FORMAT else loader, *args, **kwargs)


def _iterate(iterate: Callable[..., Weights], loader: Any, *args: Any, **kwargs: Any) -> Weights:
    """``DefaultModelLoader._get_weights_iterator``, its innermost iterator replaced by ours.

    Files, prefixes and layers stay SGLang's business: it goes through all of it as for one thread and
    safetensors.
    """
    config = loader.load_config
    if config.load_format != FORMAT:
        return iterate(loader, *args, **kwargs)
    request = _Request(dict(config.model_loader_extra_config or {}))
    token = _request.set(request)
    try:
        weights = iterate(_stand_in(loader), *args, **kwargs)
    finally:
        _request.reset(token)
    if not request.is_taken:
        raise RuntimeError(_DOES_NOT_FIT)
    return weights


def _replace(iterate: Callable[..., Weights], files: list[str], *args: Any, **kwargs: Any) -> Weights:
    """``safetensors_weights_iterator``, also of other callers in this process."""
    request = _request.get()
    if request is None:
        return iterate(files, *args, **kwargs)
    request.is_taken = True
    return _weights(files, request.options)


def _stand_in(loader: Any) -> Any:
    stand_in = copy.copy(loader)
    stand_in.load_config = _as_safetensors(loader.load_config)
    return stand_in


def _as_safetensors(load_config: Any) -> Any:
    from sglang.srt.configs.load_config import LoadFormat

    plain = copy.copy(load_config)
    plain.load_format = LoadFormat.SAFETENSORS
    plain.model_loader_extra_config = {"enable_multithread_load": False}
    return plain


# ------------------------------------------------------------------------------------------- loading


def _weights(files: list[str], options: dict[str, Any]) -> Weights:
    """The tensors of these files, on the current GPU; `options` are those of ``--model-loader-extra-config``."""
    import torch
    from tqdm.auto import tqdm

    import instanttensor

    others = [file for file in files if not file.endswith(".safetensors")]
    if others:
        raise ValueError(f"load format instanttensor reads .safetensors files only, and there is {', '.join(others)}")
    if not torch.cuda.is_available():
        raise ValueError("load format instanttensor loads into CUDA GPUs, and torch finds none here")
    device = torch.device("cuda", torch.cuda.current_device())
    group, is_first = _ranks()
    with instanttensor.safe_open(files, framework="pt", device=device, process_group=group, copy=True, **options) as f:
        total = len(f.keys())
        yield from tqdm(f.tensors(), "Loading with InstantTensor", total, disable=not is_first, mininterval=1)


def _ranks() -> tuple[Any, bool]:
    """The process group that loads together, if there is more than this process; whether this is rank 0."""
    import torch

    if not torch.distributed.is_initialized():
        return None, True
    from sglang.srt.distributed.parallel_state import get_pp_group, get_tp_group, get_world_group

    # Stages of a pipeline do not always load together, a draft model is the last one's alone; within a
    # stage all do.
    ranks = get_world_group() if get_pp_group().world_size == 1 else get_tp_group()
    return ranks.device_group if ranks.world_size > 1 else None, torch.distributed.get_rank() == 0
