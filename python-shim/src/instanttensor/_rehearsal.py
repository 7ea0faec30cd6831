"""A load for nobody at the engine's start, so that the first real one is quick.

The engine rehearses its own part by itself. This goes through the rest: jep looks at each of Java's
classes when it meets it for the first time, and torch and CUDA have their own first times.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from . import _bridge, _frameworks, _loading, _stats
from ._catalogue import Catalogue

# With fewer it would only make the start longer, by as much as it makes the first load shorter.
_SPARE_PROCESSORS = 4

if TYPE_CHECKING:
    from ._java import Engine


def rehearse(engine: Engine) -> None:
    """Loads a file that exists in memory only, with the library that the process uses already.

    What fails here is told by the first real load, to somebody who wants to know.
    """
    if len(os.sched_getaffinity(0)) < _SPARE_PROCESSORS:
        return
    with contextlib.suppress(Exception):
        # The engine's own has begun, and is not waited for: this one meets it half-way.
        framework = _framework()
        if framework is None:
            return
        descriptor = engine.rehearsalFile()
        try:
            _load(f"/proc/self/fd/{descriptor}", framework)
        finally:
            os.close(descriptor)


def _framework() -> _frameworks.Framework | None:
    torch = sys.modules.get("torch")
    if torch is not None:
        ordinal = _cuda_in_use(torch)
        return _frameworks.Torch(torch.device("cuda", ordinal) if ordinal >= 0 else torch.device("cpu"))
    return _frameworks.Numpy() if "numpy" in sys.modules else None


def _cuda_in_use(torch: object) -> int:
    """The CUDA device that torch works on already; -1 for none.

    Making a context is not ours to do: it takes half a gigabyte on whatever device it is.
    """
    cuda = torch.cuda  # type: ignore[attr-defined]
    if not cuda.is_initialized():
        return -1
    current: int = cuda.current_device()
    return current if torch._C._cuda_hasPrimaryContext(current) else -1  # type: ignore[attr-defined]


def _load(path: str, framework: _frameworks.Framework) -> None:
    java = _bridge.wait_open(path, "")
    try:
        catalogue = Catalogue(java, None)
        options = _bridge.engine().options(framework.ordinal, 0, 0, 0, 0, 0.0, 0, 1)
        load = _loading.start(java, catalogue.selected, options)
        try:
            for _ in _loading.tensors(
                load,
                catalogue,
                catalogue.selected,
                framework,
                # A copy would load one of torch's kernels, which has time while the first bytes are on their way.
                copy=False,
                cap_bytes=sys.maxsize,
                group=None,
                waiting=lambda _: None,
            ):
                pass
            _stats.of(load.alive())
        finally:
            load.close()
    finally:
        java.close()
