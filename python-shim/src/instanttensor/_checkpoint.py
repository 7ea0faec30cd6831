"""An open checkpoint: its files and headers, and what every load from it has to know."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import _bridge, _stats
from ._bridge import JavaOwner, call
from ._catalogue import Catalogue
from ._errors import SafetensorError

if TYPE_CHECKING:
    from ._distributed import Group
    from ._frameworks import Framework
    from ._java import JavaCheckpoint
    from ._options import Options


class Load(JavaOwner):
    """A load under way."""

    def leave(self) -> None:
        """Tells ranks that load along that no more of it is wanted."""


class Checkpoint(JavaOwner):
    """What `safe_open`, a pass over its tensors and reads on demand share.

    Parameters
    ----------
    framework : Framework
        What the tensors become, and where.
    options : Options
        For all loads.
    matches : callable or None
        The filter; only tensors whose names it selects exist here.
    group : Group or None
        Ranks that load together.
    filter_text : str
        The filter, for messages.
    read_once_per : {"group", "node"}
        Among which ranks each byte is read once.

    Attributes
    ----------
    files : list of str
        In the order in which they are read.
    total_bytes : int
        Of the selected tensors.
    loads : list of Load
        Those under way, which closing ends.
    totals : Totals
        What loads did that are over.
    """

    files: list[str]
    total_bytes: int

    def __init__(
        self,
        framework: Framework,
        options: Options,
        matches: Callable[[str], bool] | None,
        group: Group | None,
        filter_text: str = "",
        read_once_per: str = "group",
    ) -> None:
        self.framework = framework
        self.matches = matches
        self.filter_text = filter_text
        self.read_once_per = read_once_per
        self.group = group
        self.loads: list[Load] = []
        self.totals = _stats.Totals()
        self._options = options
        self._decoding = threading.Lock()
        self._decoded: Catalogue | None = None

    def open(self, paths: list[str], *, prepare: bool) -> None:
        """Opens the files.

        Parameters
        ----------
        prepare : bool
            Whether the engine makes a load ready meanwhile.
        """
        # Which ranks are on this machine is not known yet; that there are more of them is likely.
        processes = 1 if self.group is None else self.group.world
        # For the host nothing is made ready, and a backend that reads to GPUs cannot serve.
        known = prepare or self.framework.ordinal < 0
        expected = self.load_options(processes=processes) if known else None
        java = _bridge.wait_open("\0".join(paths), "\0".join(self._options.backends), expected, owner=self)
        self.files = list(java.files())
        self.total_bytes = self.catalogue.total_bytes if self.matches else java.totalBytes()

    def alive(self) -> JavaCheckpoint:
        """The Java checkpoint.

        Raises
        ------
        SafetensorError
            After `close()`.
        RuntimeError
            In a child forked after Java's start.
        """
        _bridge.engine()
        java: JavaCheckpoint | None = self.java
        if java is None:
            raise SafetensorError("File is closed")
        return java

    @property
    def catalogue(self) -> Catalogue:
        """The tensors, decoded when somebody asks: a load of all of them is started before that."""
        with self._decoding:
            if self._decoded is None:
                # Closing takes the lock too: it frees what is decoded here.
                self._decoded = Catalogue(self.alive(), self.matches)
            return self._decoded

    def warn_of_duplicates(self) -> None:
        """Warns of tensors that two files hold, in the name of whoever called this function's caller."""
        java = self.alive()
        named_twice = list(java.duplicates())
        doubled = [name for name in named_twice if name in self.catalogue]
        if doubled:
            homes = " and ".join(java.homes(doubled[0]))
            more = f" (likewise: {len(doubled) - 1} more)" if len(doubled) > 1 else ""
            warnings.warn(
                f"tensor {doubled[0]!r} is in {homes}{more}: tensors() yields each of them, get_tensor() refuses",
                UserWarning,
                stacklevel=3,
            )

    def load_options(
        self, *, buffer_bytes: int | None = None, rank: int = 0, world: int = 1, processes: int = 1, ranks: int = 1
    ) -> Any:
        """The options of a load as the engine takes them."""
        options = self._options
        return call(
            _bridge.engine().options,
            self.framework.ordinal,
            options.buffer_bytes if buffer_bytes is None else buffer_bytes,
            options.chunk_bytes,
            options.readers,
            options.reads_in_flight,
            options.max_free_mem_usage,
            rank,
            world,
            processes,
            ranks,
        )

    def stats(self) -> dict[str, Any]:
        """See `safe_open.stats`."""
        return self.totals.report(self.framework.label, _stats.access(self.alive(), self.files))

    def close(self) -> None:
        """Ends loads that are under way and closes the files. See `safe_open.close`."""
        for load in list(self.loads):
            load.leave()
            load.close()
        if self.java is _bridge.LEFT_BEHIND:
            # A thread of the parent's may have held the lock; it does not exist here.
            return
        with self._decoding:
            super().close()
        if self.group is not None:
            self.group.raise_interrupt()
