"""Several ranks that fill the same slabs: each reads its part, a collective brings the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ._catalogue import Catalogue

if TYPE_CHECKING:
    import torch

Result = TypeVar("Result")


class Group:
    """A torch process group, and the few agreements that a load needs.

    All ranks of the group make the same calls in the same order, as with any collective.

    Parameters
    ----------
    process_group : torch.distributed.ProcessGroup
    device : torch.device
        Where the group's collectives work: a CUDA device for NCCL, the host for gloo.
    """

    def __init__(self, process_group: Any, device: torch.device) -> None:
        import torch
        import torch.distributed as dist

        self._torch = torch
        self._dist = dist
        self._group = process_group
        self._device = device
        self.rank: int = dist.get_rank(process_group)
        self.world: int = dist.get_world_size(process_group)

    def least(self, numbers: Sequence[int]) -> list[int]:
        """The minimum over all ranks, number by number."""
        tensor = self._torch.tensor(list(numbers), dtype=self._torch.int64, device=self._device)
        self._dist.all_reduce(tensor, op=self._dist.ReduceOp.MIN, group=self._group)
        return [int(number) for number in tensor.tolist()]

    def together(self, action: Callable[[], Result], doing: str, undo: Callable[[Result], None]) -> Result:
        """Does something that can fail on one rank alone; then it fails on every rank.

        Without this the others would wait in a collective that the failing rank never enters.

        Parameters
        ----------
        doing : str
            What, for the error on the other ranks.
        undo : callable
            Takes a result back on the ranks that have one.
        """
        error: BaseException | None = None
        results: list[Result] = []
        try:
            results.append(action())
        except BaseException as caught:
            error = caught
        try:
            (first,) = self.least([self.world if error is None else self.rank])
            if error is not None:
                raise error
            if first < self.world:
                raise RuntimeError(f"rank {first} failed {doing}; its own error says why")
        except BaseException:
            for result in results:
                undo(result)
            raise
        return results[0]

    def require_same(self, catalogue: Catalogue) -> None:
        """Raises on every rank unless all of them are about to load the same tensors."""
        digest = hashlib.sha256()
        for index in catalogue.selected:
            entry = (catalogue.names[index], catalogue.dtypes[index], catalogue.shapes[index])
            digest.update(repr(entry).encode())
        number = int.from_bytes(digest.digest()[:7], "little")
        least, negated = self.least([number, -number])
        if least != -negated:
            raise RuntimeError(
                "the ranks of process_group want different tensors: "
                "expected the same files and the same tensor_filter on each"
            )

    def gather(self, base: torch.Tensor) -> None:
        """Completes a slab in place, from every rank's part of it.

        As bytes: gloo gathers neither 16-bit integers nor fp8.
        """
        part = base.numel() // self.world
        mine = base[self.rank * part : (self.rank + 1) * part]
        self._dist.all_gather_into_tensor(base, mine, group=self._group)
