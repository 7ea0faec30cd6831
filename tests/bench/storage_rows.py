"""The rows of `slow_storage`: storages that the emulator of tests/storage makes, and a disk.

Their bars are ratios, or parts of what the emulator lets pass, so they are judged on any machine, at full size. What
counts is one open: the first of its process.
"""

from dataclasses import dataclass

from cases import Case, Checkpoint
from loaders import BY_HAND

TENSOR_BYTES = 4 << 20
# With it a load of ours takes 10 s on the fastest of the emulated storages: its depth has to settle.
FULL_FILE_MIB = 1000

HAND = tuple(f"ours-{readers}x{mib}" for readers, mib in BY_HAND)
PEERS = ("fastsafetensors", "runai", "safetensors")
ALL = ("ours", *HAND, *PEERS)
# They read one file after the other, so the rate of one is that of any; all of them would take an hour.
FILE_BY_FILE = ("fastsafetensors", "safetensors")
NEAR_BEST = f"ours first >= 0.90 of {','.join(HAND)}"
NOT_BEHIND = f"ours first >= 1.00 of {','.join(PEERS)}"


@dataclass(frozen=True)
class StorageCase(Case):
    """One row.

    Attributes
    ----------
    emulator : dict, optional
        Options of the emulator (see tests/storage/README.md); None: the storage as it is.
    file_by_file : int, optional
        So many files are enough of loaders that read one after the other.
    """

    emulator: dict | None = None
    file_by_file: int | None = None
    loaders: tuple = ALL
    cache: str = "cold"
    shown: tuple = ("first",)
    unit: str = "MB/s"
    judged_on: tuple = ("cuda", "cpu")

    def files_of(self, loader):
        """How many files a loader loads; None: all."""
        return self.file_by_file if loader in FILE_BY_FILE else None


def rows(file_mib):
    """All rows, with files of so many MiB."""

    def sized(kind, files):
        full, chosen = (
            (Checkpoint(kind, (files * mib * 2**20 // TENSOR_BYTES, TENSOR_BYTES, files)),)
            for mib in (max(file_mib, FULL_FILE_MIB), file_mib)
        )
        return {"full": full, "small": chosen}

    half = {"latency_ms": 10, "bandwidth": 500e6}
    return (
        StorageCase(
            "latency", "10 ms a request", **sized("hollow", 16), emulator={"latency_ms": 10}, file_by_file=1,
            loaders=("ours", "ours-128MiB", *HAND, *PEERS),
            bars=("ours first >= 12 of safetensors", "ours-8x1 first >= 5 of safetensors",
                  "ours-128MiB first >= 0.90 of ours", NEAR_BEST, NOT_BEHIND),
        ),
        StorageCase(
            "descriptors", "100 MB/s a descriptor, 1.5 GB/s in all", **sized("hollow", 16), file_by_file=1,
            emulator={"descriptor_bandwidth": 100e6, "bandwidth": 1.5e9},
            bars=("ours first >= 1275 MB/s", NEAR_BEST, NOT_BEHIND),
        ),
        StorageCase(
            "capped", "200 MB/s in all", **sized("hollow", 2), emulator={"bandwidth": 200e6}, file_by_file=1,
            bars=("ours first >= 190 MB/s", "ours settled <= 16 requests", NEAR_BEST),
        ),
        StorageCase(
            "half", "10 ms, 500 MB/s in all, half of each file cached", **sized("hollow", 4), emulator=half,
            cache="half", bars=("ours first <= 1.1 times case half-alone", NEAR_BEST, NOT_BEHIND),
        ),
        StorageCase("half-alone", "the same, the other half alone", **sized("hollow", 2), emulator=half,
                    loaders=("ours",)),
        StorageCase(
            "disk", "a local disk", **sized("giant", 4), where="disk", loaders=("plain-direct", *ALL),
            bars=("ours first >= 0.95 of plain-direct", NEAR_BEST, NOT_BEHIND),
        ),
    )  # fmt: skip
