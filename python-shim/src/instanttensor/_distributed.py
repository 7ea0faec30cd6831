"""Ranks that load together: what they tell each other, so that none waits for one that failed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import torch

# What a rank can say at once; the end of a longer text is lost.
_ROOM_BYTES = 1 << 10
# A message among ranks of one host takes 30 us over NVLink; others are looked at less and less often.
_SPIN_S = 0.001
_LONGEST_NAP_S = 0.002
# How long a rank that was interrupted goes on waiting for the others, so that they can be told.
_PATIENCE_S = 10.0


class OtherRankError(RuntimeError):
    """Another rank failed; the text says which, and why."""


class Group:
    """A torch process group, and what its ranks tell each other by collectives of its own.

    All ranks of the group make the same calls in the same order, as with any collective.

    Parameters
    ----------
    process_group : torch.distributed.ProcessGroup
        With any backend that gathers bytes: NCCL on GPUs, gloo on the host.

    Attributes
    ----------
    rank, world : int
        This rank's number in the group, and how many there are.
    part, parts : int
        Which part of every slab this rank reads, and of how many: see `read_with`.
    """

    def __init__(self, process_group: Any) -> None:
        import torch
        import torch.distributed as dist

        self._torch = torch
        self._dist = dist
        self._group = process_group
        self.rank: int = dist.get_rank(process_group)
        self.world: int = dist.get_world_size(process_group)
        self.part, self.parts = self.rank, self.world
        self._readers = process_group
        # Over the host where the group has a backend for it: the GPU's streams are left alone then.
        self._on_host = "cpu:" in str(dist.get_backend_config(process_group))
        self._device: torch.device | None = None
        self._side: torch.cuda.Stream | None = None

    def load_to(self, ordinal: int) -> None:
        """Says where this rank's tensors go: to a CUDA device, or to the host (-1). Until then the current CUDA device
        is taken where one is needed."""
        self._device = self._torch.device("cpu") if ordinal < 0 else self._torch.device("cuda", ordinal)

    def read_with(self, ranks: Sequence[int]) -> None:
        """Says which ranks of the group read every slab together, this one among them: all, until told otherwise."""
        if len(ranks) == self.world:
            return
        self.part, self.parts = list(ranks).index(self.rank), len(ranks)
        if self.parts > 1:
            self._readers = _subgroup(self._dist, self._group, tuple(ranks))

    @property
    def stream(self) -> int:
        """The CUDA stream on which slabs are completed, as a number; 0 on the host. Not the caller's: neither
        has to wait for what the other has queued."""
        side = self._side_stream()
        return 0 if side is None else int(side.cuda_stream)

    def _side_stream(self) -> torch.cuda.Stream | None:
        if self._side is None and self._device is not None and self._device.type == "cuda":
            self._side = self._torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        return self._side

    def exchange(self, text: str) -> list[str]:
        """What every rank says, this one included, rank by rank."""
        return self.say(text).wait()

    def say(self, text: str) -> Said:
        """Says something without waiting for what the others say."""
        mine = self._torch.zeros(_ROOM_BYTES, dtype=self._torch.uint8)
        said = text.encode()[:_ROOM_BYTES]
        mine[: len(said)] = self._torch.frombuffer(bytearray(said), dtype=self._torch.uint8) if said else 0
        if self._on_host:
            return _SaidOnHost(self, mine)
        return _SaidOnGpu(self, mine)

    @contextmanager
    def jointly(self, doing: str) -> Iterator[None]:
        """What is done inside can fail on one rank alone; then it fails on every rank.

        Without this the others would wait in a collective that the failing rank never enters.

        Parameters
        ----------
        doing : str
            What, for the error on the other ranks.

        Raises
        ------
        OtherRankError
            At the end, where this rank did well, and another one failed.
        """
        try:
            yield
        except BaseException as error:
            self.say(self.failed(doing, error)).leave()
            raise
        said = self.say("")
        self.require_silence(said.wait())
        said.raise_interrupt()

    def failed(self, doing: str, error: BaseException | None) -> str:
        """What a rank says of its error; nothing where there is none."""
        if error is None:
            return ""
        return f"{self.name()} failed {doing}: {type(error).__name__}: {error}"

    def name(self) -> str:
        """How messages call this rank."""
        everywhere = self._dist.get_rank()
        return f"rank {self.rank}" + (f" (of all: {everywhere})" if everywhere != self.rank else "")

    def require_silence(self, texts: Sequence[str]) -> None:
        """Raises what another rank has said.

        Raises
        ------
        OtherRankError
        """
        told = [text for text in texts if text]
        if told:
            raise OtherRankError(told[0] + (f" (and {len(told) - 1} ranks more)" if len(told) > 1 else ""))

    def gather(self, base: torch.Tensor) -> None:
        """Completes a slab in place, from every rank's part of it, on `stream`.

        As bytes: gloo gathers neither 16-bit integers nor fp8.
        """
        if self.parts == 1:
            return
        part = base.numel() // self.parts
        mine = base[self.part * part : (self.part + 1) * part]
        # A side stream of None leaves the current one.
        with self._torch.cuda.stream(self._side_stream()):
            self._dist.all_gather_into_tensor(base, mine, group=self._readers)


# Of a group, those that were made of some of its ranks: making one takes NCCL half a second.
_subgroups: WeakKeyDictionary[Any, dict[tuple[int, ...], Any]] = WeakKeyDictionary()


def _subgroup(dist: Any, group: Any, ranks: tuple[int, ...]) -> Any:
    made = _subgroups.setdefault(group, {})
    if ranks not in made:
        everywhere = [dist.get_global_rank(group, rank) for rank in ranks]
        # Other nodes make theirs at the same time; no two have a rank in common.
        made[ranks] = dist.new_group(everywhere, backend=dist.get_backend(group), use_local_synchronization=True)
    return made[ranks]


class Said:
    """Something that this rank has said, and what the others say meanwhile."""

    def __init__(self) -> None:
        self._interrupt: BaseException | None = None

    def wait(self) -> list[str]:
        """What every rank said, rank by rank.

        An interrupt is kept for `raise_interrupt`: the others count on this rank until it can tell them.
        """
        begun = time.monotonic()
        nap = 0.0
        while not self._is_over():
            try:
                now = time.monotonic()
                if now - begun > _SPIN_S:
                    nap = min(_LONGEST_NAP_S, (now - begun) / 20)
                time.sleep(nap)
            except KeyboardInterrupt as interrupt:
                if self._interrupt is not None:
                    raise
                self._interrupt, begun = interrupt, time.monotonic()
            if self._interrupt is not None and time.monotonic() - begun > _PATIENCE_S:
                raise self._interrupt
        return self._texts()

    def raise_interrupt(self) -> None:
        """Raises the interrupt that came while waiting, if one did."""
        if self._interrupt is not None:
            raise self._interrupt

    def leave(self) -> None:
        """Leaves the others to read it whenever they come to it."""
        raise NotImplementedError

    def _is_over(self) -> bool:
        raise NotImplementedError

    def _texts(self) -> list[str]:
        raise NotImplementedError


def _split(gathered: bytes) -> list[str]:
    texts = (gathered[at : at + _ROOM_BYTES] for at in range(0, len(gathered), _ROOM_BYTES))
    return [text.rstrip(b"\0").decode(errors="replace") for text in texts]


# What was left to the others: collectives under way, with the memory that they use.
_left: list[_SaidOnHost] = []


class _SaidOnHost(Said):
    """By a collective on host memory."""

    def __init__(self, group: Group, mine: torch.Tensor) -> None:
        super().__init__()
        self._mine = mine
        self._all = mine.new_empty(group.world * _ROOM_BYTES)
        self._work = group._dist.all_gather_into_tensor(self._all, mine, group=group._group, async_op=True)

    def _is_over(self) -> bool:
        return bool(self._work.is_completed())

    def _texts(self) -> list[str]:
        # Raises what went wrong.
        self._work.wait()
        return _split(self._all.numpy().tobytes())

    def leave(self) -> None:
        _left[:] = [said for said in _left if not said._is_over()]
        _left.append(self)


class _SaidOnGpu(Said):
    """By a collective on a GPU's memory, on a stream of its own."""

    def __init__(self, group: Group, mine: torch.Tensor) -> None:
        super().__init__()
        torch = group._torch
        device = group._device
        if device is None or device.type != "cuda":
            device = torch.device("cuda", torch.cuda.current_device())
        stream = group._side_stream() or torch.cuda.current_stream(device)
        with torch.cuda.stream(stream):
            sent = mine.to(device)
            gathered = torch.empty(group.world * _ROOM_BYTES, dtype=torch.uint8, device=device)
            # Has the stream wait, so that the memory is not used again before.
            group._dist.all_gather_into_tensor(gathered, sent, group=group._group)
            self._host = torch.empty(gathered.shape, dtype=torch.uint8, pin_memory=True)
            self._host.copy_(gathered, non_blocking=True)
            self._read = stream.record_event()

    def _is_over(self) -> bool:
        return bool(self._read.query())

    def _texts(self) -> list[str]:
        return _split(self._host.numpy().tobytes())

    def leave(self) -> None:
        """The stream holds all that is needed."""
