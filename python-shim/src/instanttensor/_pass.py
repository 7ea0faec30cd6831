"""One pass over all tensors of a checkpoint, from the load's start to its end."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from . import _agreement, _bridge, _loading, _progress, _stats
from ._slabs import GatheredSlabs, OwnSlabs

if TYPE_CHECKING:
    from ._checkpoint import Checkpoint
    from ._distributed import Group
    from ._options import Progress

# A warning names no more tensors than a person reads.
_NAMED = 5


def tensors(checkpoint: Checkpoint, *, copy: bool, progress: Progress) -> Iterator[tuple[str, Any]]:
    """Loads and yields them. See `safe_open.tensors`."""
    return _loading.tensors(checkpoint, partial(_begin, checkpoint, progress), copy=copy)


def _begin(checkpoint: Checkpoint, progress: Progress, undo: ExitStack) -> _loading.Begun:
    """Starts a load, when its first tensor is asked for; `undo` ends it."""
    group = checkpoint.group
    if group is not None:
        undo.callback(group.raise_interrupt)
    # Until the others can be told that this rank leaves.
    with nullcontext() if group is None else group.undisturbed():
        agreed = None if group is None else _agree(checkpoint, group)
        # With a group, all that can fail on one rank alone, warnings included.
        with nullcontext() if group is None else group.jointly("to start loading"):
            reporter = _progress.Reporter(progress, checkpoint.total_bytes)
            undo.callback(reporter.close)
            load = _start(checkpoint, agreed)
            undo.callback(_end, checkpoint, load)
            checkpoint.loads.append(load)
            # Another thread may have closed the file before it knew of this load.
            checkpoint.alive()
            cap = _stats.cap_bytes(load.alive())
            _warn_of_oversize(checkpoint, cap)
            if group is not None:
                # Decoded now: later the others would not be told that it failed.
                _ = checkpoint.catalogue
            slabs = _slabs(checkpoint, load, reporter, cap)
        load.slabs = slabs
        undo.push(lambda _kind, error, _trace: slabs.leave(error))
    return _loading.Begun(load, slabs, cap, reporter.finish)


def _agree(checkpoint: Checkpoint, group: Group) -> _agreement.Agreed:
    return _agreement.agree(group, checkpoint, lambda: _loading.cap_bytes(checkpoint))


def _start(checkpoint: Checkpoint, agreed: _agreement.Agreed | None) -> _loading.SlabLoad:
    group = checkpoint.group
    if group is None or agreed is None:
        return _loading.start(checkpoint, checkpoint.load_options())
    if checkpoint.read_once_per == "node":
        group.read_with(agreed.node)
    options = checkpoint.load_options(
        buffer_bytes=agreed.cap_bytes,
        rank=group.part,
        world=group.parts,
        processes=len(agreed.node),
        # All cut alike, also a rank that is alone on its machine and reads all.
        ranks=group.world,
    )
    return _loading.start(checkpoint, options)


def _slabs(checkpoint: Checkpoint, load: _loading.SlabLoad, reporter: _progress.Reporter, cap: int) -> _loading.Slabs:
    framework, group = checkpoint.framework, checkpoint.group
    if group is None:
        return OwnSlabs(load, framework, reporter.update)
    parts = group.parts
    return GatheredSlabs(load, framework, group, lambda staged: reporter.update(staged * parts), cap)


def _end(checkpoint: Checkpoint, load: _loading.SlabLoad) -> None:
    if load.ended:
        return
    if load in checkpoint.loads:
        checkpoint.loads.remove(load)
    java = load.java
    if java is not None and java is not _bridge.LEFT_BEHIND:
        checkpoint.totals.add(java)
        load.close()
        load.slabs = None
        if _stats.debug_enabled() and checkpoint.java is not None:
            _stats.log_report(checkpoint.stats())


def _warn_of_oversize(checkpoint: Checkpoint, cap: int) -> None:
    # Nearly always there is none, and the catalogue need not be here before the first slab.
    if _bridge.call(checkpoint.alive().largestBytes) <= cap:
        return
    catalogue = checkpoint.catalogue
    large = [index for index in catalogue.selected if catalogue.sizes[index] > cap]
    if large:
        names = [f"{catalogue.names[index]!r} ({catalogue.sizes[index]:,} bytes)" for index in large[:_NAMED]]
        if len(large) > _NAMED:
            names.append(f"{len(large) - _NAMED} more")
        warnings.warn(
            f"larger than buffer_size ({cap:,} bytes), so each gets storage of its own: {', '.join(names)}",
            RuntimeWarning,
            stacklevel=4,
        )
