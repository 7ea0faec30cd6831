"""Ranks that load together: what they tell each other, so that none waits for one that failed."""

from __future__ import annotations

import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

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


class Round:
    """What is said when all ranks have done something.

    Attributes
    ----------
    says : str
        What this rank found, as JSON; nothing by default.
    heard : list of str
        What every rank found, this one included, rank by rank; there once all are done.
    """

    def __init__(self) -> None:
        self.says = ""
        self.heard: list[str] = []


def group_of(process_group: Any) -> Group | None:
    """The ranks that load together; None where one loads alone, with a group of one or without any.

    Raises
    ------
    ValueError
        Where this rank is not in the group.
    """
    group = None if process_group is None else Group(process_group)
    return group if group is not None and group.world > 1 else None


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
        if self.rank < 0:
            raise ValueError(f"process_group: rank {dist.get_rank()} of all is not in it")
        self.world: int = dist.get_world_size(process_group)
        self.part, self.parts = self.rank, self.world
        self._readers = list(range(self.world))
        # Over the host where the group has a backend for it: the GPU's streams are left alone then.
        self._on_host = "cpu:" in str(dist.get_backend_config(process_group))
        self._device: torch.device | None = None
        self._side: torch.cuda.Stream | None = None
        self._mailbox: _Mailbox | None = None
        # What to do about a Ctrl-C that came while the others counted on this rank; whether such ones are kept now,
        # but for those that come in a block whose failure is told.
        self._interrupt: Callable[[], Any] | None = None
        self._keeps_interrupts = False
        self._in_told_block = False

    def load_to(self, ordinal: int) -> None:
        """Says where this rank's tensors go: to a CUDA device, or to the host (-1). Until then the current CUDA device
        is taken where one is needed."""
        self._device = self._torch.device("cpu") if ordinal < 0 else self._torch.device("cuda", ordinal)

    def read_with(self, ranks: Sequence[int]) -> None:
        """Says which ranks of the group read every slab together, this one among them: all, until told otherwise."""
        self._readers = list(ranks)
        self.part, self.parts = self._readers.index(self.rank), len(ranks)

    @property
    def stream(self) -> int:
        """The CUDA stream on which slabs are completed, as a number; 0 on the host. Not the caller's, for whose other
        work it does not wait. The caller's waits for all that is queued here when a slab is handed out: the gather
        of the next one too, where that is completed ahead."""
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
        # Paths that are no UTF-8 have surrogates for it.
        said = bytearray(text.encode(errors="backslashreplace")[:_ROOM_BYTES].ljust(_ROOM_BYTES, b"\0"))
        mine = self._torch.frombuffer(said, dtype=self._torch.uint8)
        if self._on_host:
            return _SaidOnHost(self, mine)
        return _SaidOnGpu(self, mine if text else None)

    def mailbox(self) -> _Mailbox:
        """The GPU's memory for messages, on the stream that they are sent on now."""
        torch, device = self._torch, self._device
        if device is None or device.type != "cuda":
            device = torch.device("cuda", torch.cuda.current_device())
        stream = self._side_stream() or torch.cuda.current_stream(device)
        if self._mailbox is None or self._mailbox.stream != stream:
            self._mailbox = _Mailbox(torch, stream, self.world)
        return self._mailbox

    @contextmanager
    def jointly(self, doing: str) -> Iterator[Round]:
        """What is done inside can fail on one rank alone; then it fails on every rank. Where it does not, each has
        heard at the end what the others found.

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
        round_of = Round()
        with self.undisturbed():
            try:
                self._in_told_block = True
                self.raise_interrupt()
                yield round_of
                self._in_told_block = False
            except BaseException as error:
                self._in_told_block = False
                self.say(self.failed(doing, error)).leave()
                raise
            round_of.heard = self.exchange(round_of.says)
            self.require_silence(round_of.heard)

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Keeps Ctrl-C for `raise_interrupt`, once: a rank that breaks off between what it says and what it does then
        would have the others wait for it. Held around several blocks of `jointly`, it keeps those that come between
        them; within each, Ctrl-C does what it does without us.

        Other threads than the main one get none anyway.
        """
        before = signal.getsignal(signal.SIGINT)
        in_main_thread = threading.current_thread() is threading.main_thread()
        if self._keeps_interrupts or not in_main_thread or not callable(before):
            yield
            return

        def keep(*seen: Any) -> None:
            if self._in_told_block or self._interrupt is not None:
                before(*seen)
            else:
                self._interrupt = lambda: before(*seen)

        signal.signal(signal.SIGINT, keep)
        self._keeps_interrupts = True
        try:
            yield
        finally:
            self._keeps_interrupts = False
            signal.signal(signal.SIGINT, before)

    @property
    def is_interrupted(self) -> bool:
        """Whether a Ctrl-C is kept."""
        return self._interrupt is not None

    def raise_interrupt(self) -> None:
        """Has a Ctrl-C that was kept do what it does without us; to be called where the others can be told."""
        interrupt, self._interrupt = self._interrupt, None
        if interrupt is not None:
            interrupt()

    def failed(self, doing: str, error: BaseException | None) -> str:
        """What a rank says of its error; nothing where there is none."""
        if error is None:
            return ""
        try:
            text = f": {error}"
        except Exception:
            # Of a class whose `__str__` fails; that is no reason to have the others wait.
            text = ""
        return f"{self.name()} failed {doing}: {type(error).__name__}{text}"

    def name(self) -> str:
        """How messages call this rank."""
        everywhere = self._dist.get_rank()
        return f"rank {self.rank}" + (f" (of all: {everywhere})" if everywhere != self.rank else "")

    def require_silence(self, texts: Sequence[str]) -> None:
        """Raises what another rank has said of its failure; JSON is none.

        Raises
        ------
        OtherRankError
        """
        told = [text for text in texts if text and not text.startswith("{")]
        if told:
            raise OtherRankError(told[0] + (f" (and {len(told) - 1} ranks more)" if len(told) > 1 else ""))

    def gather(self, base: torch.Tensor) -> None:
        """Completes a slab in place, from every rank's part of it, on `stream`.

        As bytes: gloo gathers neither 16-bit integers nor fp8.
        """
        part_bytes = base.numel() // self.parts
        parts = [base[number * part_bytes : (number + 1) * part_bytes] for number in range(self.parts)]
        # A side stream of None leaves the current one.
        with self._torch.cuda.stream(self._side_stream()):
            if self.parts == self.world:
                self._dist.all_gather_into_tensor(base, parts[self.part], group=self._group)
            else:
                self._swap(parts)

    def _swap(self, parts: Sequence[torch.Tensor]) -> None:
        """Gathers among some ranks of the group. A group of theirs would be a collective of its own to make, which
        ranks with other groups beside it do not get through (torch 2.11)."""
        dist = self._dist
        operations = []
        for number, rank in enumerate(self._readers):
            if number != self.part:
                peer = dist.get_global_rank(self._group, rank)
                operations.append(dist.P2POp(dist.isend, parts[self.part], peer, self._group))
                operations.append(dist.P2POp(dist.irecv, parts[number], peer, self._group))
        for work in dist.batch_isend_irecv(operations) if operations else ():
            work.wait()


class Said(ABC):
    """Something that this rank has said, and what the others say meanwhile."""

    def __init__(self, group: Group) -> None:
        self._of = group

    def wait(self) -> list[str]:
        """What every rank said, rank by rank."""
        begun = time.monotonic()
        interrupted: float | None = None
        nap = 0.0
        while not self._is_over():
            now = time.monotonic()
            if now - begun > _SPIN_S:
                nap = min(_LONGEST_NAP_S, (now - begun) / 20)
            time.sleep(nap)
            if self._of.is_interrupted:
                interrupted = interrupted or now
                if now - interrupted > _PATIENCE_S:
                    self._of.raise_interrupt()
        return self._texts()

    @abstractmethod
    def leave(self) -> None:
        """Leaves the others to read it whenever they come to it."""

    @abstractmethod
    def _is_over(self) -> bool:
        """Whether all have said something."""

    @abstractmethod
    def _texts(self) -> list[str]:
        """What they have said."""


def _split(gathered: bytes) -> list[str]:
    texts = (gathered[at : at + _ROOM_BYTES] for at in range(0, len(gathered), _ROOM_BYTES))
    return [text.rstrip(b"\0").decode(errors="replace") for text in texts]


# What was left to the others: collectives under way, with the memory that they use.
_left: list[_SaidOnHost] = []


class _SaidOnHost(Said):
    """By a collective on host memory."""

    def __init__(self, group: Group, mine: torch.Tensor) -> None:
        super().__init__(group)
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


class _Mailbox:
    """What messages need on a GPU. Kept, since each of a load's slabs has one: making it anew took half the time of a
    message, and one that says nothing needs no copy to the GPU, which would wait its turn behind the load's.

    Parameters
    ----------
    stream : torch.cuda.Stream
        All messages follow each other on it.

    Attributes
    ----------
    nothing, gathered : torch.Tensor
        On the GPU: what a rank says that has nothing to say, and what all have said.
    heard : torch.Tensor
        The latter, on the host.
    """

    def __init__(self, torch: Any, stream: torch.cuda.Stream, world: int) -> None:
        self.stream = stream
        with torch.cuda.stream(stream):
            self.nothing = torch.zeros(_ROOM_BYTES, dtype=torch.uint8, device=stream.device)
            self.gathered = torch.empty(world * _ROOM_BYTES, dtype=torch.uint8, device=stream.device)
            # Pinned in the context of that device, which need not be the current one.
            self.heard = torch.empty(world * _ROOM_BYTES, dtype=torch.uint8, pin_memory=True)
            self.arrived = torch.cuda.Event()


class _SaidOnGpu(Said):
    """By a collective on a GPU's memory, on a stream of its own.

    Parameters
    ----------
    mine : torch.Tensor or None
        On the host; None for nothing.
    """

    def __init__(self, group: Group, mine: torch.Tensor | None) -> None:
        super().__init__(group)
        box = self._box = group.mailbox()
        with group._torch.cuda.stream(box.stream):
            sent = box.nothing if mine is None else mine.to(box.nothing.device)
            # Has the stream wait, so that the memory is not used again before.
            group._dist.all_gather_into_tensor(box.gathered, sent, group=group._group)
            box.heard.copy_(box.gathered, non_blocking=True)
            box.arrived.record(box.stream)

    def _is_over(self) -> bool:
        return bool(self._box.arrived.query())

    def _texts(self) -> list[str]:
        return _split(self._box.heard.numpy().tobytes())

    def leave(self) -> None:
        """The stream holds all that is needed."""
