"""Loads safetensors checkpoints into GPU or host memory at the hardware's limit.

>>> from instanttensor import safe_open
>>> with safe_open("model.safetensors", framework="pt", device=0) as f:  # doctest: +SKIP
...     for name, tensor in f.tensors():
...         ...

Importing this package starts nothing: the engine's JVM starts with the first
`safe_open`, which imports torch too where it is asked for.
"""

from . import _installed
from ._options import Backend, BackendPolicy
from ._safe_open import safe_open
from ._version import __version__

__all__ = ["Backend", "BackendPolicy", "__version__", "safe_open"]

_installed.check()
