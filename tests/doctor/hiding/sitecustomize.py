"""Where this folder is on the path, the packages that HIDDEN_PACKAGES names are as good as not installed."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_HIDDEN = os.environ["HIDDEN_PACKAGES"].split(",")


class _Hiding:
    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        return None if name.partition(".")[0] in _HIDDEN else PathFinder.find_spec(name, path, target)


sys.meta_path[:] = [_Hiding if finder is PathFinder else finder for finder in sys.meta_path]
