"""One pass over all tensors of a checkpoint, from the load's start to its end."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import _bridge, _loading, _progress, _stats

if TYPE_CHECKING:
    from ._catalogue import Catalogue
    from ._checkpoint import Checkpoint
    from ._options import Progress

# A warning names no more tensors than a person reads.
_NAMED = 5


def tensors(checkpoint: Checkpoint, *, copy: bool, progress: Progress) -> Iterator[tuple[str, Any]]:
    """Loads and yields them. See `safe_open.tensors`."""
    load: _loading.SlabLoad | None = None
    reporter = _progress.Reporter(progress, checkpoint.total_bytes)
    try:
        load = _start(checkpoint)
        checkpoint.loads.append(load)
        # Another thread may have closed the file before it knew of this load.
        checkpoint.alive()
        catalogue, group = checkpoint.catalogue, checkpoint.group
        cap = _stats.cap_bytes(load.alive())
        _warn_of_oversize(catalogue, cap)
        share = group.world if group is not None else 1
        yield from _loading.tensors(
            load,
            catalogue,
            catalogue.selected,
            checkpoint.framework,
            copy=copy,
            cap_bytes=cap,
            group=group,
            waiting=lambda staged: reporter.update(staged * share),
        )
        reporter.finish()
    finally:
        reporter.close()
        if load is not None and not load.ended:
            _end(checkpoint, load)


def _start(checkpoint: Checkpoint) -> _loading.SlabLoad:
    java, group = checkpoint.alive(), checkpoint.group
    if group is None and checkpoint.matches is None:
        return _loading.start_all(java, checkpoint.load_options())
    selected = checkpoint.catalogue.selected
    if group is None:
        return _loading.start(java, selected, checkpoint.load_options())
    group.require_same(checkpoint.catalogue)
    cap = group.together(
        lambda: _loading.cap_bytes(java, selected, checkpoint.load_options()), "to size its slabs", lambda _: None
    )
    # Slabs have to be cut alike everywhere, so the rank with the least memory decides.
    options = checkpoint.load_options(buffer_bytes=group.least([cap])[0], rank=group.rank, world=group.world)
    return group.together(
        lambda: _loading.start(java, selected, options), "to start loading", lambda load: load.close()
    )


def _end(checkpoint: Checkpoint, load: _loading.SlabLoad) -> None:
    if load in checkpoint.loads:
        checkpoint.loads.remove(load)
    java = load.java
    if java is not None and java is not _bridge.LEFT_BEHIND:
        checkpoint.totals.add(java)
        load.close()
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
