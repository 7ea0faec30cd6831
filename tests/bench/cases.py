"""What is measured: one entry of CASES is one row. A new row is one more entry; nothing else has to know of it.

A bar is a sentence that `bars` reads: who, which figure, what it has to be. Bars are those of one H200 with 16
virtual CPUs, and are judged where a GPU is and the row has its full size.
"""

from dataclasses import dataclass

import checkpoints

GIB = 1 << 30

ALL = ("ours", "ours-copy", "cpp", "cpp-copy", "fastsafetensors", "runai", "safetensors")
# One for each package.
ONE_EACH = ("ours", "cpp", "fastsafetensors", "runai", "safetensors")
# The C++ package's views are no longer theirs once the next one comes.
KEEPING = ("ours", "ours-copy", "cpp-copy", "fastsafetensors", "runai", "safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that `checkpoints` writes.

    Attributes
    ----------
    kind, numbers
        As `checkpoints.write` takes them.
    files : int, optional
        Only the first so many files are loaded.
    """

    kind: str
    numbers: tuple = ()
    files: int | None = None

    @property
    def folder(self):
        """The name of its folder."""
        return "-".join(map(str, (self.kind, *self.numbers)))

    @property
    def needed_bytes(self):
        """What it takes of its storage."""
        return checkpoints.needed_bytes(self.kind, self.numbers)


@dataclass(frozen=True)
class Case:
    """One row.

    Attributes
    ----------
    name, title : str
        For the command line; for the table.
    full, small : tuple of Checkpoint
        What is loaded, and what instead where the full one does not fit or nothing but a CPU is there. More than
        one: a row of growth, a figure for each.
    where : {"memory", "disk"}
    cache : {"as is", "cached", "half", "cold"}
        What the page cache holds before every open.
    consume : {"drop", "keep", "parameter", "first"}
        What becomes of a tensor: dropped, all kept in a dict, copied into an existing tensor of its shape; or the
        load stops at the first one.
    shown : tuple of {"first", "later", "boot"}
        The figures that the table shows: of the first open of a process, of its later ones, of Java's start.
    unit : {"GB/s", "MB/s", "ms"}
    loaders, bars : tuple of str
        See `loaders` and `bars`.
    grows : {"bytes", "tensors"}, optional
        What a row of growth grows in.
    cpus : int, optional
        How many the process may use.
    judged_on : tuple of {"cuda", "cpu"}
        Where its bars mean something.
    """

    name: str
    title: str
    full: tuple
    small: tuple
    bars: tuple = ()
    loaders: tuple = ALL
    where: str = "memory"
    cache: str = "as is"
    consume: str = "drop"
    shown: tuple = ("first", "later")
    unit: str = "GB/s"
    grows: str | None = None
    cpus: int | None = None
    judged_on: tuple = ("cuda",)


MOE = (Checkpoint("moe", (16, 3.85)),)
MOE_SMALL = (Checkpoint("moe", (4, 0.25)),)
DISK = (Checkpoint("moe", (4, 3.75)),)
TINY = (Checkpoint("tiny"),)

CASES = (
    Case(
        "moe", "61.6 GB, experts of 3 MiB", MOE, MOE_SMALL,
        bars=(
            "ours first >= 0.88 L", "ours first ahead of cpp,cpp-copy", "ours later >= 0.93 L",
            "ours-copy first >= 0.95 of ours", "ours-copy later >= 0.95 of ours",
        ),
    ),
    Case("keep", "61.6 GB, every tensor kept", MOE, MOE_SMALL, ("ours later >= 0.90 of case moe",), KEEPING,
         consume="keep"),
    Case("parameter", "61.6 GB, every tensor copied into a parameter", MOE, MOE_SMALL, ("ours later >= 0.90 L",),
         consume="parameter"),
    Case("small", "60,000 tensors of 64 KiB, 7 MB of header", (Checkpoint("small", (60_000, 64 << 10)),),
         (Checkpoint("small", (10_000, 64 << 10)),),
         ("ours later >= 15 GB/s", "ours open <= 80 ms", "ours python <= 1.5 us")),
    Case("giant", "one tensor of 8 GiB", (Checkpoint("giant", (1, 8 * GIB, 1)),),
         (Checkpoint("giant", (1, GIB // 2, 1)),), ("ours later >= 0.90 L",)),
    Case("giants", "16 tensors of 1 GiB", (Checkpoint("giant", (16, GIB, 4)),),
         (Checkpoint("giant", (16, GIB // 16, 4)),), ("ours later >= 0.90 L",)),
    # The others look at a file when its turn comes.
    Case("many", "163 files, 91,000 tensors, until the first", (Checkpoint("many", (163, 91_000)),),
         (Checkpoint("many", (163, 91_000)),), ("ours later <= 250 ms",), ("ours", "cpp"),
         consume="first", unit="ms"),
    Case("tiny", "100-byte file", TINY, TINY, ("ours later <= 5 ms", "ours device <= 4 MiB"), ALL, unit="ms"),
    Case("tiny-disk", "100-byte file on disk", TINY, TINY, ("ours later <= 5 ms", "ours device <= 4 MiB"), ALL,
         where="disk", unit="ms"),
    Case("disk-cached", "15 GB on disk, in the page cache", DISK, MOE_SMALL, ("ours later >= 0.85 L",),
         where="disk", cache="cached"),
    Case("disk-cold", "15 GB on disk, not in the page cache", DISK, MOE_SMALL,
         ("ours later >= 0.95 of plain-direct",), ("plain-direct", *ONE_EACH), where="disk", cache="cold"),
    Case("boot", "Java and bridge up", TINY, TINY, ("ours boot <= 100 ms",), ("ours",), shown=("boot",), unit="ms"),
    Case("boot-2cpus", "Java and bridge up, on 2 CPUs", TINY, TINY, ("ours boot <= 150 ms",), ("ours",),
         shown=("boot",), unit="ms", cpus=2),
    Case("growth-bytes", "1 to 60 GB, time over bytes",
         # Most of it is the checkpoint of the first rows.
         (Checkpoint("moe", (1, 1.0)), Checkpoint("moe", (1, 2.0)),
          *(Checkpoint("moe", (16, 3.85), files) for files in (1, 2, 4, 8, 12, 16))),
         tuple(Checkpoint("moe", (8, 0.125), files) for files in (1, 2, 4, 6, 8)),
         ("ours later linear",), ("ours",), shown=("later",), unit="ms", grows="bytes"),
    Case("growth-tensors", "1,000 to 200,000 tensors of 16 KiB, time over tensors",
         tuple(Checkpoint("small", (count, 16 << 10)) for count in (1_000, 5_000, 20_000, 60_000, 120_000, 200_000)),
         tuple(Checkpoint("small", (count, 4 << 10)) for count in (1_000, 5_000, 10_000, 20_000)),
         ("ours later linear",), ("ours",), shown=("later",), unit="ms", grows="tensors"),
)  # fmt: skip


def case_of(name):
    """The case of a name.

    Raises
    ------
    KeyError
        There is none.
    """
    return {case.name: case for case in CASES}[name]
