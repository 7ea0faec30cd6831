"""What loads did, added up for `safe_open.stats()`."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ._bridge import call

if TYPE_CHECKING:
    from ._java import JavaCheckpoint, JavaLoad

# In the order of the engine's LoadStats.
_FIELDS = (
    "bytes", "read_bytes", "slabs", "seconds", "plan", "read", "staging", "room", "copy", "caller",
    "buffer_bytes", "peak_buffer_bytes", "pinned_bytes", "reads_in_flight",
)  # fmt: skip
_WAITS = ("read", "staging", "room", "copy", "caller")
_PEAKS = ("buffer_bytes", "peak_buffer_bytes", "pinned_bytes", "reads_in_flight")


def of(load: JavaLoad) -> dict[str, float]:
    """A load's numbers so far, by name: bytes, and seconds."""
    return dict(zip(_FIELDS, load.stats()))


def cap_bytes(load: JavaLoad) -> int:
    """What a load holds at most in slabs that no tensor refers to."""
    return int(of(load)["buffer_bytes"])


def access(java: JavaCheckpoint, files: Iterable[str]) -> list[dict[str, Any]]:
    """How each file is read, and why so."""
    flat = list(call(java.access))
    return [
        {"file": file, "mode": mode, "backend": backend or None, "reason": reason, "passed_over": passed_over}
        for file, mode, backend, reason, passed_over in zip(files, flat[0::4], flat[1::4], flat[2::4], flat[3::4])
    ]


class Totals:
    """Sums over the loads of one checkpoint; of sizes, the largest.

    Attributes
    ----------
    open_seconds : float
        What opening took.
    """

    def __init__(self) -> None:
        self.open_seconds = 0.0
        self._loads = 0
        # Threads may load from one file at once.
        self._lock = threading.Lock()
        self._sums = dict.fromkeys(_FIELDS, 0.0)

    def add(self, load: JavaLoad) -> None:
        """Counts a load that is over."""
        done = load.stagedBytes()
        values = of(load)
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
            "open_seconds": self.open_seconds,
            "plan_seconds": sums["plan"],
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
