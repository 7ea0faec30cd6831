"""The slabs of a load as they come: this rank's own, or completed by all ranks of a group."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._capsule import Export
from ._errors import SafetensorError

if TYPE_CHECKING:
    from ._distributed import Group
    from ._frameworks import Framework
    from ._loading import SlabLoad

# Of slabs that ranks fill together, as many have no view while one is completed ahead: that one, the one that is
# about to be handed out, and two that readers fill.
_SLABS_WITHOUT_VIEW = 4


class OwnSlabs:
    """Slabs that this process fills alone."""

    def __init__(self, load: SlabLoad, framework: Framework, waiting: Callable[[int], None]) -> None:
        self._load = load
        self._framework = framework
        self._waiting = waiting

    def take(self) -> tuple[Any, int]:
        stream = self._framework.stream()
        return polled(self._load, self._framework, stream, self._waiting), stream

    def leave(self, error: BaseException | None = None) -> None:
        """There is nobody to tell."""


def polled(load: SlabLoad, framework: Framework, stream: int, waiting: Callable[[int], None]) -> Any:
    """The bytes of the load's next slab, which `stream` waits for; None for one without any."""
    export = Export()
    try:
        load.next_slab(export, stream, waiting)
        return framework.wrap(export) if export.address else None
    finally:
        export.give_back()


class GatheredSlabs:
    """Slabs of which each rank reads a part. They are completed one ahead of the caller, as far as the budget goes:
    the ranks agree, and gather, while the caller is at work on the one before.

    Before each gather every rank says whether its part is there. One that failed, or that leaves, says so instead, and
    all raise; nobody enters that gather. Where a gather itself fails on one rank, the others are in it already, and
    leave it by the group's time-out.

    Parameters
    ----------
    cap_bytes : int
        The budget. A slab that is larger than a fourth of it is completed when it is taken.
    """

    def __init__(
        self, load: SlabLoad, framework: Framework, group: Group, waiting: Callable[[int], None], cap_bytes: int
    ) -> None:
        self._load = load
        self._framework = framework
        self._group = group
        self._waiting = waiting
        self._ahead_bytes = cap_bytes // _SLABS_WITHOUT_VIEW
        self._completed = 0
        self._ahead: list[Any] = []
        self._is_over = False
        # Another thread may close the file: whoever is in the middle of a slab tells the others by itself.
        self._taking = threading.Lock()

    def take(self) -> tuple[Any, int]:
        group = self._group
        with self._taking:
            if self._is_over:
                # Closed by another thread a moment ago, which has told the others.
                raise SafetensorError("File is closed")
            with group.undisturbed():
                if not self._ahead:
                    self._complete()
                base = self._ahead.pop()
                sizes = self._load.slab_bytes
                if self._completed < len(sizes) and sizes[self._completed] <= self._ahead_bytes:
                    self._complete()
            group.raise_interrupt()
            return base, group.stream

    def leave(self, error: BaseException | None = None) -> None:
        if not self._taking.acquire(blocking=False):
            return
        try:
            self._ahead.clear()
            if self._is_over or self._completed == len(self._load.slab_bytes):
                return
            group = self._group
            with group.undisturbed():
                self._is_over = True
                if error is None or isinstance(error, GeneratorExit):
                    group.say(f"{group.name()} left tensors() before its end").leave()
                else:
                    group.say(group.failed("to hand out its tensors", error)).leave()
        finally:
            self._taking.release()

    def _complete(self) -> None:
        group, framework, number = self._group, self._framework, self._completed
        try:
            group.raise_interrupt()
            base = polled(self._load, framework, group.stream, self._report)
            gathered = None if base is None else framework.as_torch(base)
        except BaseException as error:
            self._is_over = True
            group.say(group.failed("to load its part", error)).leave()
            raise
        try:
            group.require_silence(group.exchange(""))
            if gathered is not None:
                group.gather(gathered)
        except BaseException:
            # Either all have heard why, or the ranks are out of step: whatever was said now would be taken for
            # something else.
            self._is_over = True
            raise
        if base is not None:
            # What fills up the last rank's part is nobody's.
            base = base[: self._load.slab_bytes[number]]
        self._ahead.append(base)
        self._completed += 1

    def _report(self, staged: int) -> None:
        self._group.raise_interrupt()
        self._waiting(staged)
