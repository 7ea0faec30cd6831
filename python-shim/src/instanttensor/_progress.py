"""Tells the caller how far a load is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Reporter:
    """Calls back with bytes, never going down, and ends at the total.

    Parameters
    ----------
    progress : bool or callable
        True is a tqdm bar; a callable gets ``(bytes_done, bytes_total)``.
    total : int
        Bytes of the tensors that will be loaded.
    """

    def __init__(self, progress: Any, total: int) -> None:
        self._total = total
        self._done = -1
        self._bar: Any = None
        self._call: Callable[[int, int], Any] | None = None
        if progress is True:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=total, unit="B", unit_scale=True, unit_divisor=1000, desc="Loading tensors")
        elif callable(progress):
            self._call = progress

    def update(self, done: int) -> None:
        """Reports, if there is anything new."""
        done = min(done, self._total)
        if done <= self._done:
            return
        if self._bar is not None:
            self._bar.update(done - max(self._done, 0))
        elif self._call is not None:
            self._call(done, self._total)
        self._done = done

    def finish(self) -> None:
        """Reports the total; to be called when all tensors have been handed out."""
        self.update(self._total)

    def close(self) -> None:
        """Ends the bar, wherever it is."""
        if self._bar is not None:
            self._bar.close()


def check(progress: Any) -> None:
    """Raises TypeError where `progress` is neither a bool nor callable."""
    if not isinstance(progress, bool) and not callable(progress):
        raise TypeError(f"progress: expected False, True or a callable, got {type(progress).__name__}")
