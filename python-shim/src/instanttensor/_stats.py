"""What loads did, added up for `safe_open.stats()`."""

from __future__ import annotations

import os
import threading
from typing import Any

from ._bridge import JavaLoad

# In the order of the engine's LoadStats.
_FIELDS = (
    "bytes", "read_bytes", "slabs", "seconds", "read", "staging", "room", "copy", "caller",
    "buffer_bytes", "peak_buffer_bytes", "pinned_bytes",
)  # fmt: skip
_WAITS = ("read", "staging", "room", "copy", "caller")
_PEAKS = ("buffer_bytes", "peak_buffer_bytes", "pinned_bytes")


class Totals:
    """Sums over the loads of one checkpoint; of sizes, the largest."""

    def __init__(self, open_seconds: float) -> None:
        self._open_seconds = open_seconds
        self._loads = 0
        # Threads may load from one file at once.
        self._lock = threading.Lock()
        self._sums = dict.fromkeys(_FIELDS, 0.0)

    def add(self, load: JavaLoad) -> None:
        """Counts a load that is over."""
        done = load.stagedBytes()
        values = dict(zip(_FIELDS, load.stats()))
        with self._lock:
            self._loads += 1
            for field, value in values.items():
                if field in _PEAKS:
                    self._sums[field] = max(self._sums[field], value)
                else:
                    self._sums[field] += min(value, done) if field == "bytes" else value

    def report(self, device: str, files: list[dict[str, Any]]) -> dict[str, Any]:
        """See `safe_open.stats`."""
        sums = self._sums
        seconds = sums["seconds"]
        return {
            "device": device,
            "loads": self._loads,
            "bytes": int(sums["bytes"]),
            "read_bytes": int(sums["read_bytes"]),
            "seconds": seconds,
            "open_seconds": self._open_seconds,
            "gigabytes_per_second": sums["bytes"] / seconds / 1e9 if seconds else 0.0,
            "waits": {stage: sums[stage] for stage in _WAITS},
            "slabs": int(sums["slabs"]),
            **{size: int(sums[size]) for size in _PEAKS},
            "files": files,
        }


def debug_enabled() -> bool:
    """Whether INSTANTTENSOR_DEBUG asks for a report of every load."""
    return os.environ.get("INSTANTTENSOR_DEBUG", "0") not in ("", "0")


def log_report(report: dict[str, Any]) -> None:
    """Logs a report to "instanttensor" at level DEBUG."""
    import logging

    log = logging.getLogger("instanttensor")
    if not log.hasHandlers():
        # Whoever sets the variable wants to see something, whatever the program does about logging.
        log.addHandler(logging.StreamHandler())
    if log.getEffectiveLevel() > logging.DEBUG:
        log.setLevel(logging.DEBUG)
    log.debug("loaded: %s", report)
