"""Reads what an ELF shared library asks of the machine it is loaded on (64-bit, little-endian)."""

import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PT_LOAD, PT_DYNAMIC = 1, 2
DT_NEEDED, DT_STRTAB, DT_RPATH, DT_RUNPATH = 1, 5, 15, 29
DT_VERNEED, DT_VERNEEDNUM = 0x6FFFFFFE, 0x6FFFFFFF


@dataclass(frozen=True)
class Demands:
    """Libraries by name, search paths, and symbol versions such as ``GLIBC_2.17``."""

    needed: tuple[str, ...]
    search_paths: tuple[str, ...]
    versions: frozenset[str]

    def glibc(self) -> tuple[int, int]:
        """The oldest glibc that has every symbol version asked for, (0, 0) if none is."""
        numbers = [v.removeprefix("GLIBC_").split(".") for v in self.versions if v.startswith("GLIBC_2")]
        return max(((int(n[0]), int(n[1])) for n in numbers), default=(0, 0))


def demands(image: bytes) -> Demands:
    if image[:6] != b"\x7fELF\x02\x01":
        raise ValueError("not a 64-bit little-endian ELF file")
    segments = list(_segments(image))
    dynamic = next((offset, size) for kind, offset, _, size in segments if kind == PT_DYNAMIC)
    entries = [struct.unpack_from("<qQ", image, dynamic[0] + at) for at in range(0, dynamic[1], 16)]
    values = dict(entries)

    def file_offset(address: int) -> int:
        for kind, offset, start, size in segments:
            if kind == PT_LOAD and start <= address < start + size:
                return offset + address - start
        raise ValueError(f"address {address:#x} lies in no segment")

    strings = file_offset(values[DT_STRTAB])

    def text(index: int) -> str:
        return image[strings + index : image.index(b"\0", strings + index)].decode()

    versions = set()
    if DT_VERNEED in values:
        versions = {text(i) for i in _version_names(image, file_offset(values[DT_VERNEED]), values[DT_VERNEEDNUM])}
    return Demands(
        needed=tuple(text(value) for tag, value in entries if tag == DT_NEEDED),
        search_paths=tuple(text(value) for tag, value in entries if tag in (DT_RPATH, DT_RUNPATH)),
        versions=frozenset(versions),
    )


def _segments(image: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Type, file offset, address and size in the file of each program header."""
    (table,) = struct.unpack_from("<Q", image, 32)
    entry_size, count = struct.unpack_from("<HH", image, 54)
    for index in range(count):
        kind, _, offset, address, _, size = struct.unpack_from("<IIQQQQ", image, table + index * entry_size)
        yield kind, offset, address, size


def _version_names(image: bytes, offset: int, libraries: int) -> Iterator[int]:
    """String indexes of the versions asked of each library (Elf64_Verneed and its Elf64_Vernaux)."""
    for _ in range(libraries):
        _, count, _, first, following = struct.unpack_from("<HHIII", image, offset)
        auxiliary = offset + first
        for _ in range(count):
            _, _, _, name, next_auxiliary = struct.unpack_from("<IHHII", image, auxiliary)
            yield name
            auxiliary += next_auxiliary
        offset += following


if __name__ == "__main__":
    for library in sys.argv[1:]:
        print(library, demands(Path(library).read_bytes()))
