"""One pass over all tensors of a checkpoint, from the load's start to its end."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from . import _agreement, _bridge, _loading, _progress, _stats
from ._slabs import GatheredSlabs, OwnSlabs

if TYPE_CHECKING:
    from ._catalogue import Catalogue
    from ._checkpoint import Checkpoint
    from ._options import Progress

# A warning names no more tensors than a person reads.
_NAMED = 5


def tensors(checkpoint: Checkpoint, *, copy: bool, progress: Progress) -> Iterator[tuple[str, Any]]:
    """Loads and yields them. See `safe_open.tensors`."""
    load: _loading.SlabLoad | None = None
    slabs: _loading.Slabs | None = None
    reporter = _progress.Reporter(progress, checkpoint.total_bytes)
    try:
        load = _start(checkpoint)
        checkpoint.loads.append(load)
        # Another thread may have closed the file before it knew of this load.
        checkpoint.alive()
        catalogue, group = checkpoint.catalogue, checkpoint.group
        cap = _stats.cap_bytes(load.alive())
        _warn_of_oversize(catalogue, cap)
        if group is None:
            slabs = OwnSlabs(load, checkpoint.framework, reporter.update)
        else:
            parts = group.parts
            slabs = GatheredSlabs(
                load, checkpoint.framework, group, lambda staged: reporter.update(staged * parts), cap
            )
        load.slabs = slabs
        yield from _loading.tensors(
            load, catalogue, catalogue.selected, checkpoint.framework, copy=copy, cap_bytes=cap, slabs=slabs
        )
        reporter.finish()
    finally:
        if slabs is not None:
            slabs.leave()
        reporter.close()
        if load is not None and not load.ended:
            _end(checkpoint, load)


def _start(checkpoint: Checkpoint) -> _loading.SlabLoad:
    java, group = checkpoint.alive(), checkpoint.group
    if group is None and checkpoint.matches is None:
        return _loading.start_all(java, checkpoint.load_options())
    if group is None:
        return _loading.start(java, checkpoint.catalogue.selected, checkpoint.load_options())
    agreed = _agreement.agree(
        group,
        checkpoint,
        lambda: _loading.cap_bytes(java, checkpoint.catalogue.selected, checkpoint.load_options()),
    )
    if checkpoint.read_once_per == "node":
        group.read_with(agreed.node)
    options = checkpoint.load_options(
        buffer_bytes=agreed.cap_bytes, rank=group.part, world=group.parts, processes=len(agreed.node)
    )
    with ExitStack() as undo:
        with group.jointly("to start loading"):
            load = _loading.start(java, checkpoint.catalogue.selected, options)
            undo.callback(load.close)
        undo.pop_all()
    return load


def _end(checkpoint: Checkpoint, load: _loading.SlabLoad) -> None:
    if load in checkpoint.loads:
        checkpoint.loads.remove(load)
    java = load.java
    if java is not None and java is not _bridge.LEFT_BEHIND:
        checkpoint.totals.add(java)
        load.close()
        load.slabs = None
        if _stats.debug_enabled() and checkpoint.java is not None:
            _stats.log_report(checkpoint.stats())


def _warn_of_oversize(catalogue: Catalogue, cap: int) -> None:
    # Nearly always no kind is, and nobody has to look at every tensor before the first.
    if any(kind.size > cap for kind in catalogue.kinds):
        _warn_of(catalogue, [index for index in catalogue.selected if catalogue.sizes[index] > cap], cap)


def _warn_of(catalogue: Catalogue, large: list[int], cap: int) -> None:
    if large:
        names = [f"{catalogue.names[index]!r} ({catalogue.sizes[index]:,} bytes)" for index in large[:_NAMED]]
        if len(large) > _NAMED:
            names.append(f"{len(large) - _NAMED} more")
        warnings.warn(
            f"larger than buffer_size ({cap:,} bytes), so each gets storage of its own: {', '.join(names)}",
            RuntimeWarning,
            stacklevel=4,
        )
