"""What the loads ask of a library whose arrays the tensors become: torch or numpy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ._numpy import Numpy
from ._torch import Torch, device_of

if TYPE_CHECKING:
    import torch

    from ._capsule import Export
    from ._catalogue import Kind, Run

TORCH_NAMES = ("pt", "torch", "pytorch")
NUMPY_NAMES = ("np", "numpy")


class Framework(Protocol):
    """A library whose arrays the tensors become. An array of it is written `Any` here.

    Attributes
    ----------
    ordinal : int
        Of the CUDA device; -1 for the host.
    label : str
        The device, for messages.
    device : torch.device, or "cpu"
        The same, as the library says it.
    """

    ordinal: int
    label: str
    device: Any

    def stream(self) -> int:
        """The caller's current CUDA stream as a number; 0 on the host."""

    def streams(self) -> Iterator[int]:
        """The same again and again, each as it is when it is asked for."""

    def follow(self, stream: int) -> None:
        """Makes the current stream wait for what has been queued on another, given as a number."""

    def keep_for_current(self, array: Any) -> None:
        """Has memory that was allocated on another stream outlive what the current one does with it."""

    def wrap(self, export: Export) -> Any:
        """The bytes of an exported slab, as a flat array of uint8 that owns it."""

    def check(self, kind: Kind) -> None:
        """Raises UnsupportedDtypeError where there can be no such tensor."""

    def views(self, base: Any, runs: Sequence[Run]) -> Iterable[Any]:
        """Tensors that lie in a slab, some of them made as they are asked for. `base` is from `wrap`, no
        tensor is empty, and each kind has been checked."""

    def copies(self, base: Any, runs: Sequence[Run]) -> list[Any]:
        """Copies of such tensors, with storage of their own, of exactly their size."""

    def own(self, view: Any) -> Any:
        """A copy of one."""

    def as_torch(self, base: Any) -> torch.Tensor:
        """The same bytes for torch's collectives to write to."""

    def empty(self, dtype: str, shape: tuple[int, ...]) -> Any:
        """A new, uninitialised tensor with storage of exactly its size."""

    def address(self, array: Any) -> int:
        """Of its first byte."""

    def dtype(self, name: str) -> Any:
        """The library's name for an element type; ValueError where it has none."""

    def shape(self, dtype: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Of a tensor, as the library has it: torch's float4 come in pairs."""


def choose(framework: Any, device: Any) -> Framework:
    """Checks `framework` and `device` and brings them together.

    Raises
    ------
    TypeError, ValueError
        Naming the argument and what is allowed.
    RuntimeError
        Where there is no CUDA, or no such device.
    """
    if not isinstance(framework, str):
        raise TypeError(f"framework: expected a str, got {type(framework).__name__}")
    # As safetensors takes it.
    device = "cpu" if device is None else device
    if framework in NUMPY_NAMES:
        if str(device) not in ("cpu", "cpu:0"):
            raise ValueError(f"device={device!r}: framework='np' has arrays on 'cpu' only")
        return Numpy()
    if framework in TORCH_NAMES:
        return Torch(device_of(device))
    raise ValueError(f"framework={framework!r}: expected one of 'pt' (torch), 'np' (numpy)")
