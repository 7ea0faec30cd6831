"""The suite of tests/bench is scripts in a folder: this is how tests get at their modules."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

BENCH = Path(__file__).parents[1] / "bench"


def module(name: str) -> Any:
    """A module of tests/bench."""
    if str(BENCH) not in sys.path:
        # Last, so that its names shadow nobody's.
        sys.path.append(str(BENCH))
    return importlib.import_module(name)
