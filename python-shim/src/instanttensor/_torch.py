"""Slabs and tensors as torch's, on the host or on a CUDA device."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice, repeat, starmap
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from . import _dtypes
from ._catalogue import LONG_RUN

if TYPE_CHECKING:
    import torch

    from ._capsule import Export
    from ._catalogue import Kind, Run

# A tensor of the same storage that autograd takes for one of its own. Views of a slab have one version among them: a
# change of one would be a change of all that are saved for a backward pass, and they would require gradients together.
_alone = attrgetter("data")
_MAX_ORDINAL = 127
# Of the host.
_NO_STREAM = 0
# So many tensors are made at once: fewer than make Python look for garbage, which takes it 0.1 s beside torch.
_AT_ONCE = 256
# Copies of neighbours, up to so large a tensor, wait for Python, and not for their bytes: then they are split from the
# slab by one call of torch's. It sends a few numbers to the GPU, which wait among the engine's copies, 5 % of the rate
# of larger tensors, and takes as long as a few of the smallest, so that there have to be some.
_SPLIT_BYTES = 128 << 10
_SPLIT_RUN = 64


def _geometry(kind: Kind) -> tuple[torch.dtype, tuple[int, ...], tuple[int, ...], int]:
    """Element type, shape, strides and length of a tensor, the latter two in elements, as torch sees it."""
    shape = _dtypes.view_shape(kind.dtype, kind.shape)
    strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    return _dtypes.torch_dtype(kind.dtype), shape, strides, math.prod(shape)


def _rows(
    whole: torch.Tensor, shape: tuple[int, ...], strides: tuple[int, ...], start: int, count: int
) -> torch.Tensor:
    """Tensors of one shape that lie side by side, as one that is longer."""
    return whole.as_strided((count * shape[0], *shape[1:]), strides, start)


def _public_stream(ordinal: int) -> int:
    import torch

    return int(torch.cuda.current_stream(ordinal).cuda_stream)


class Torch:
    """Tensors on the host or on a CUDA device."""

    def __init__(self, device: torch.device) -> None:
        import torch

        self._torch = torch
        self.device = device
        self.label = str(device)
        self.ordinal = -1 if device.type == "cpu" else device.index
        # A clone of bools has no bytes but 0 and 1, whatever the file says.
        self._copied_as_bytes = (getattr(torch, "float4_e2m1fn_x2", None), torch.bool)
        # Element types of which torch's kernel for several tensors at once changes no bit.
        self._bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
        # A checkpoint has few kinds of tensors, and asks for each of them thousands of times.
        self._geometry = lru_cache(maxsize=4096)(_geometry)
        self._streams: Iterator[int]
        if self.ordinal >= 0:
            # Not public, but what torch's own generated code calls; the public way makes an object
            # of it, takes ten times as long, and this is asked for every tensor.
            raw = getattr(torch._C, "_cuda_getCurrentRawStream", _public_stream)
            self._streams = map(raw, repeat(self.ordinal))
        else:
            self._streams = repeat(_NO_STREAM)

    def streams(self) -> Iterator[int]:
        return self._streams

    def stream(self) -> int:
        return next(self._streams)

    def follow(self, stream: int) -> None:
        cuda = self._torch.cuda
        earlier = cuda.ExternalStream(stream, self.device) if stream else cuda.default_stream(self.device)
        cuda.current_stream(self.device).wait_stream(earlier)

    def keep_for_current(self, array: Any) -> None:
        array.record_stream(self._torch.cuda.current_stream(self.device))

    def wrap(self, export: Export) -> Any:
        return export.hand_over(self._torch.from_dlpack)  # type: ignore[attr-defined]  # public all the same

    def as_torch(self, base: Any) -> torch.Tensor:
        found: torch.Tensor = base
        return found

    def check(self, kind: Kind) -> None:
        self._geometry(kind)

    def views(self, base: Any, runs: Sequence[Run]) -> Iterable[Any]:
        return self._views(base, runs, alone=True)

    def _views(
        self, base: Any, runs: Sequence[Run], bits: torch.dtype | None = None, *, alone: bool = False
    ) -> Iterable[torch.Tensor]:
        """The same; where a type is given, of that, which has the size of theirs. What is only copied from need not be
        alone."""
        return chain.from_iterable(self._parts(base, runs, bits, alone))

    def _parts(
        self, base: Any, runs: Sequence[Run], bits: torch.dtype | None, alone: bool
    ) -> Iterator[Iterable[torch.Tensor]]:
        """The same in parts, each made when its first tensor is asked for."""

        def single(these: Iterable[tuple[Any, ...]]) -> Iterable[torch.Tensor]:
            made = starmap(self._torch.as_strided, these)
            return map(_alone, made) if alone else made

        typed: dict[torch.dtype, torch.Tensor] = {}
        one_by_one: list[tuple[torch.Tensor, tuple[int, ...], tuple[int, ...], int]] = []
        for names, kind, offset in runs:
            element, shape, strides, step = self._geometry(kind)
            whole = typed.get(element)
            if whole is None:
                whole = typed[element] = base.view(bits or element)
            start = offset // element.itemsize
            if len(names) >= LONG_RUN:
                yield single(one_by_one)
                one_by_one = []
                for first in range(0, len(names), _AT_ONCE):
                    count = min(_AT_ONCE, len(names) - first)
                    yield self._neighbours(whole, shape, strides, start + first * step, count)
                continue
            for _ in names:
                one_by_one.append((whole, shape, strides, start))
                start += step
        yield single(one_by_one)

    def _neighbours(
        self, whole: torch.Tensor, shape: tuple[int, ...], strides: tuple[int, ...], start: int, count: int
    ) -> Iterable[torch.Tensor]:
        """Tensors of one shape that lie side by side: one call into torch for all of them, which takes a third of the
        time of one for each."""
        if shape:
            # Tensors alone as they come, and so in two thirds of the time of unbind or split.
            rows = _rows(whole, shape, strides, start, count)
            return self._torch.unsafe_split_with_sizes(rows, [shape[0]] * count)
        return map(_alone, whole.as_strided((count,), (1,), start).unbind(0))

    def copies(self, base: Any, runs: Sequence[Run]) -> list[Any]:
        if self.ordinal < 0:
            as_bytes = any(self._geometry(run.kind)[0] in self._copied_as_bytes for run in runs)
            return list(map(self.own if as_bytes else self._torch.clone, self._views(base, runs)))
        elements = [None if self._is_split(run) else self._geometry(run.kind)[0] for run in runs]
        alike: dict[torch.dtype, list[Run]] = {}
        for run, element in zip(runs, elements):
            if element is not None:
                alike.setdefault(self._bits[element.itemsize], []).append(run)
        # As integers: as floats it would change the bits of NaNs.
        added = {bits: iter(self._copied(list(self._views(base, these, bits)))) for bits, these in alike.items()}
        copies: list[torch.Tensor] = []
        for run, element in zip(runs, elements):
            if element is None:
                copies.extend(self._split(base, run))
                continue
            bits = self._bits[element.itemsize]
            found = islice(added[bits], len(run.names))
            copies.extend(found if element is bits else map(self._torch.Tensor.view, found, repeat(element)))
        return copies

    def _is_split(self, run: Run) -> bool:
        """Whether copies of a run are split from the slab."""
        element, shape, _, _ = self._geometry(run.kind)
        small_ones = len(run.names) >= _SPLIT_RUN and run.kind.size <= _SPLIT_BYTES
        return small_ones and bool(shape) and element not in self._copied_as_bytes

    def _split(self, base: Any, run: Run) -> list[torch.Tensor]:
        """Without a view of each, and without a second tensor for its type: five sixths of the time of `_copied`."""
        element, shape, strides, _ = self._geometry(run.kind)
        count = len(run.names)
        rows = _rows(base.view(element), shape, strides, run.offset // element.itemsize, count)
        copies = list(map(self._torch.empty_like, repeat(rows[: shape[0]], count)))
        self._torch.split_with_sizes_copy(rows, [shape[0]] * count, out=copies)
        return copies

    def _copied(self, views: list[torch.Tensor]) -> Iterable[torch.Tensor]:
        if len(views) < 2:
            return [view.clone() for view in views]
        # Integers plus nothing: memory for all of them in one call, and one kernel. Launched one by one, copies of
        # small tensors take longer than their bytes take to arrive.
        return self._torch._foreach_add(views, 0)

    def own(self, view: Any) -> Any:
        if view.dtype in self._copied_as_bytes:
            return view.view(self._torch.uint8).clone().view(view.dtype)
        return view.clone()

    def empty(self, dtype: str, shape: tuple[int, ...]) -> Any:
        shape = _dtypes.view_shape(dtype, shape)
        element = _dtypes.torch_dtype(dtype)
        size = math.prod(shape) * element.itemsize
        # As bytes: there are programs that put another torch.empty in its place, for another type of floats (DeepSpeed
        # does), and under use_deterministic_algorithms(True) torch makes none of float4.
        made = self._torch.empty(size, dtype=self._torch.uint8, device=self.device)
        storage = made.untyped_storage()
        if storage.device != self.device or storage.nbytes() != size:
            # The engine is about to write there.
            raise RuntimeError(
                f"torch.empty was asked for {size:,} bytes on {self.label}, and made {storage.nbytes():,} on "
                f"{storage.device}: tensors cannot be loaded under FakeTensorMode, or where torch.empty is replaced so"
            )
        return _alone(made.view(element).view(shape))

    def address(self, array: Any) -> int:
        return int(array.data_ptr())

    def dtype(self, name: str) -> Any:
        return _dtypes.torch_dtype(name)

    def shape(self, dtype: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self._torch.Size(_dtypes.view_shape(dtype, shape))


def device_of(device: Any) -> torch.device:
    """The device that is meant, made ready.

    Raises
    ------
    TypeError, ValueError
        Saying what is allowed.
    RuntimeError
        Where there is no CUDA, or no such device.
    """
    import torch

    allowed = "'cpu', 'cuda', 'cuda:N', N or a torch.device of these"
    if isinstance(device, bool) or not isinstance(device, (int, str, torch.device)):
        raise TypeError(f"device: expected {allowed}, got {type(device).__name__}")
    # torch keeps eight bits of an ordinal: 256 would quietly be 0.
    ordinal = device if isinstance(device, int) else str(device).partition(":")[2] or "0"
    if not str(ordinal).isdecimal() or int(ordinal) > _MAX_ORDINAL:
        raise ValueError(f"device={device!r}: expected {allowed}")
    try:
        found = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    except RuntimeError:
        raise ValueError(f"device={device!r}: expected {allowed}") from None
    if found.type == "cpu":
        return torch.device("cpu")
    if found.type != "cuda":
        raise ValueError(f"device={device!r}: expected {allowed}")
    return _cuda_device(found)


def _cuda_device(device: torch.device) -> torch.device:
    import torch

    if not torch.cuda.is_available():
        built = torch.version.cuda
        why = "no CUDA driver or no GPU was found" if built else "this torch was built without CUDA"
        raise RuntimeError(f"device={str(device)!r}: {why} (torch {torch.__version__}); use device='cpu'")
    index = torch.cuda.current_device() if device.index is None else device.index
    if index >= torch.cuda.device_count():
        raise RuntimeError(f"device='cuda:{index}': no such device: this machine has {torch.cuda.device_count()}")
    # torch makes its context when it needs it; the slabs that it is about to be given live in it.
    torch.cuda.init()  # type: ignore[no-untyped-call]
    return torch.device("cuda", index)
