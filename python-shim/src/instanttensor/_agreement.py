"""What ranks compare before they load together: files, filter, device, memory, and the machine that each runs on."""

from __future__ import annotations

import hashlib
import json
import socket
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ._checkpoint import Checkpoint
    from ._distributed import Group

# Hexadecimal digits of a digest: enough for what nobody forges.
_DIGITS = 16
_UNSIGNED = (1 << 64) - 1
# Bytes of a filter. Escaped they may be twice as many, beside 270 others; a message has room for 1,024.
_SHOWN_BYTES = 360


class Agreed(NamedTuple):
    """What all ranks load with.

    Attributes
    ----------
    cap_bytes : int
        The cap on slabs: the least of all ranks', since slabs have to be cut alike everywhere.
    node : list of int
        The ranks of the group on this rank's machine, this one included.
    """

    cap_bytes: int
    node: list[int]


def agree(group: Group, checkpoint: Checkpoint, cap_bytes: Callable[[], int]) -> Agreed:
    """Compares what each rank is about to load.

    Parameters
    ----------
    cap_bytes : callable
        This rank's cap on slabs. What it raises is told to the others.

    Raises
    ------
    RuntimeError
        On every rank: two have other files, select other tensors, read otherwise, or load to other types of device;
        the text says which and what.
    OtherRankError
        Another rank could not even compare.
    """
    with group.jointly("to size its slabs") as round_of:
        round_of.says = json.dumps(_described(checkpoint, cap_bytes()), ensure_ascii=False)
    ranks = [json.loads(text) for text in round_of.heard]
    _require_same(ranks, "contents", _files, "opened other files")
    _require_same(ranks, "selection", _wanted, "wants other tensors")
    _require_same(ranks, "read_once_per", _read_once_per, "reads otherwise")
    # Ranks that gather over different backends would wait for each other.
    _require_same(ranks, "device", _device, "loads to another type of device")
    here = ranks[group.rank]["host"]
    return Agreed(
        min(rank["cap"] for rank in ranks), [number for number, rank in enumerate(ranks) if rank["host"] == here]
    )


def host() -> str:
    """The machine that this process runs on; containers of one machine may have one name each."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return _digest((boot.read_text() if boot.exists() else socket.gethostname()).encode())


def _described(checkpoint: Checkpoint, cap_bytes: int) -> dict[str, Any]:
    java = checkpoint.alive()
    tensors = java.tensors()
    # Names are not needed to compare, and without a filter not to start loading either.
    selected = None if checkpoint.matches is None else checkpoint.catalogue.selected
    return {
        "files": len(checkpoint.files),
        "bytes": java.fileBytes(),
        "tensors": tensors,
        "contents": f"{java.fingerprint() & _UNSIGNED:016x}",
        "selected": tensors if selected is None else len(selected),
        "selection": "" if selected is None or len(selected) == tensors else _digest(array("q", selected).tobytes()),
        "filter": checkpoint.filter_text.encode(errors="backslashreplace")[:_SHOWN_BYTES].decode(errors="ignore"),
        "read_once_per": checkpoint.read_once_per,
        "device": "cpu" if checkpoint.framework.ordinal < 0 else "cuda",
        "cap": cap_bytes,
        "host": host(),
    }


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_DIGITS]


def _require_same(
    ranks: list[dict[str, Any]], what: str, shown: Callable[[dict[str, Any]], str], differently: str
) -> None:
    for number, rank in enumerate(ranks):
        if rank[what] != ranks[0][what]:
            raise RuntimeError(
                f"rank {number} of process_group {differently} than rank 0: expected {shown(ranks[0])}, "
                f"found {shown(rank)}"
            )


def _files(rank: dict[str, Any]) -> str:
    return (
        f"{rank['tensors']:,} tensors in {rank['files']:,} files of {rank['bytes']:,} bytes "
        f"(names, types, shapes and sizes: {rank['contents']})"
    )


def _wanted(rank: dict[str, Any]) -> str:
    return f"{rank['filter']}, which selects {rank['selected']:,} of {rank['tensors']:,}"


def _read_once_per(rank: dict[str, Any]) -> str:
    return f"read_once_per={rank['read_once_per']!r}"


def _device(rank: dict[str, Any]) -> str:
    return str(rank["device"])
