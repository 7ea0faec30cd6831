"""The checks of `doctor` on checkpoints: their storage, what a load of them would do, and a small real one."""

from __future__ import annotations

import os
import re
import time
import warnings
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _bridge, _reads
from ._bridge import call
from ._errors import SafetensorError, about
from ._finding import Finding, fail, note, ok, plural, sentence, size
from ._safe_open import safe_open

if TYPE_CHECKING:
    from ._java import Engine

# Of a checkpoint no more than this is loaded.
SAMPLE_BYTES = 16 << 20


class Target(NamedTuple):
    """What loads are made with; None where there is no such thing."""

    engine: Engine | None
    framework: str | None
    device: str


def from_memory(target: Target) -> Iterator[Finding]:
    """A load of a checkpoint that exists in memory only, for those who name no path."""
    if (missing := _missing(target)) is not None:
        yield fail("load", f"No load was tried, {missing}.")
    else:
        try:
            yield _load_from_memory(target)
        except Exception as e:
            yield fail("load", f"A load from memory to {target.device} failed: {sentence(e)}")
    yield note("storage", "Nothing is said of storage: name a file, a folder or an index after doctor, and it will be.")


def from_paths(target: Target, paths: list[str]) -> Iterator[Finding]:
    """All about each path."""
    for path in paths:
        yield from _file_system(path)
        if (missing := _missing(target)) is not None:
            yield fail("load", f"{path}: no load was tried, {missing}.", path=path)
        else:
            yield from _from_path(target, path)


def _missing(target: Target) -> str | None:
    if target.engine is None:
        return "since the engine does not start"
    return "since there is neither torch nor numpy" if target.framework is None else None


def _from_path(target: Target, path: str) -> list[Finding]:
    found: list[Finding] = []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            with _open(target, path) as f:
                for look in (_contents, _storage, _access, _outlook, _types, _load):
                    found += look(target, path, f)
        except Exception as e:
            text = sentence(e)
            found.append(fail("load", text if path in text else f"{path}: {text}", path=path))
    told = dict.fromkeys(sentence(str(warning.message)) for warning in warned)
    return [*found, *(note("warning", f"{path}: {text}", path=path) for text in told)]


def _open(target: Target, path: str, **options: Any) -> safe_open:
    assert target.framework is not None
    return safe_open(path, target.framework, target.device if target.framework == "pt" else "cpu", **options)


# -------------------------------------------------------------------------------------- storage


class _Mount(NamedTuple):
    point: str
    type: str
    source: str


def _file_system(path: str) -> Iterator[Finding]:
    mount = _mount_of(path) if os.path.exists(path) else None
    if mount is not None:
        text = f"{path}: on {mount.type} ({mount.source}, mounted at {mount.point})."
        yield ok("file_system", text, path=path, **mount._asdict())


def _mount_of(path: str) -> _Mount | None:
    """The mount that a path lies on, as far as the kernel tells."""
    real = os.path.realpath(path)
    found = None
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                before, _, after = line.partition(" - ")
                mount = _Mount(*map(_unescaped, (before.split()[4], *after.split()[:2])))
                within = f"{real}/".startswith(f"{mount.point.rstrip('/')}/")
                # Of several at one point the last one hides the others.
                if within and (found is None or len(mount.point) >= len(found.point)):
                    found = mount
    except OSError:
        return None
    return found


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), text)


def _contents(target: Target, path: str, f: safe_open) -> Iterator[Finding]:
    files, tensors, total = len(f.filename), len(f), f.total_tensor_size
    text = f"{path}: {plural(files, 'file')}, {plural(tensors, 'tensor')}, {size(total)}; the headers are whole."
    yield ok("contents", text, path=path, files=files, tensors=tensors, bytes=total)


class _Storage(NamedTuple):
    """io.instanttensor.bridge.Probes.storage."""

    direct_refusal: str
    direct_bytes: str
    says_alignment: str
    offset_alignment: str
    memory_alignment: str
    cached_fraction: str
    cache_method: str


def _storage(target: Target, path: str, f: safe_open) -> Iterator[Finding]:
    assert target.engine is not None
    probes = [_Storage(*_bridge.wait_answer(target.engine.storage, file)) for file in f.filename]
    yield from _direct(path, probes)
    yield from _cached(path, f.filename, probes)


def _direct(path: str, probes: list[_Storage]) -> Iterator[Finding]:
    # The same file system says the same, but for what came back of a short file.
    kinds = sorted(probe._replace(direct_bytes="", cached_fraction="", cache_method="") for probe in probes)
    for kind, alike in groupby(kinds):
        of_them = f" for {len(list(alike))} of {len(probes)} files" if kinds[0] != kinds[-1] else ""
        facts: dict[str, Any] = {"path": path, "works": not kind.direct_refusal, "reason": kind.direct_refusal or None}
        if kind.direct_refusal:
            yield note("direct_io", f"{path}: no direct I/O{of_them}: {sentence(kind.direct_refusal)}", **facts)
            continue
        alignment = "the kernel does not say with which alignment"
        if kind.says_alignment == "true":
            facts |= {"offset_alignment": int(kind.offset_alignment), "memory_alignment": int(kind.memory_alignment)}
            alignment = (
                f"the kernel asks for offsets at multiples of {kind.offset_alignment} bytes "
                f"and memory at multiples of {kind.memory_alignment}"
            )
        text = f"{path}: direct I/O works{of_them}: a read past the page cache came back; {alignment}."
        yield ok("direct_io", text, **facts)


def _cached(path: str, files: list[str], probes: list[_Storage]) -> Iterator[Finding]:
    sizes = [os.path.getsize(file) for file in files]
    cached = sum(float(probe.cached_fraction) * count for probe, count in zip(probes, sizes))
    method = probes[0].cache_method
    part = cached / sum(sizes) if sum(sizes) else 1.0
    if method.startswith("no probe: "):
        why = sentence(method.removeprefix("no probe: "))
        text = f"{path}: the page-cache probe does not work, so files count as not cached: {why}"
        yield note("page_cache", text, path=path, works=False)
        return
    text = f"{path}: the page-cache probe works ({method}): {100 * part:.0f} % of {size(sum(sizes))} is cached."
    yield ok("page_cache", text, path=path, works=True, method=method, cached_fraction=part)


# ---------------------------------------------------------------------------------------- loads


_WAYS = {
    "direct": "past the page cache (direct)",
    "buffered": "through the page cache (buffered)",
    "mixed": "through the page cache where that holds it, else past it (mixed)",
}


def _access(target: Target, path: str, f: safe_open) -> Iterator[Finding]:
    files = f.stats()["files"]
    for (mode, reason, passed_over), group in groupby(
        files, key=lambda file: (file["mode"], file["reason"], file["passed_over"])
    ):
        alike = list(group)
        more = f" and {len(alike) - 1} more" if len(alike) > 1 else ""
        way = _WAYS[mode]
        instead = f"; passed over: {passed_over}" if passed_over else ""
        text = f"{path}: a load reads {os.path.basename(alike[0]['file'])}{more} {way}: {reason}{instead}."
        yield ok("access", text, path=path, mode=mode, reason=reason, files=[file["file"] for file in alike])


def _outlook(target: Target, path: str, f: safe_open) -> Iterator[Finding]:
    names = ("readers", "chunk_bytes", "reads", "slabs", "slab_bytes", "buffer_bytes", "staging_bytes")
    facts = dict(zip(names, map(int, list(call(f._checkpoint.alive().outlook, f._checkpoint.load_options())))))
    pinned = "" if f._checkpoint.framework.ordinal < 0 else "pinned "
    through = f"through at most {size(facts['staging_bytes'])} of {pinned}staging buffers"
    yield ok(
        "plan",
        f"{path}: a load of all of it to {target.device} makes {plural(facts['reads'], 'read')} of at most "
        f"{size(facts['chunk_bytes'])}, by {plural(facts['readers'], 'thread')}, "
        f"{through if facts['staging_bytes'] else 'straight to where they belong (no pinned memory)'}, into "
        f"{plural(facts['slabs'], 'slab')} of at most {size(facts['slab_bytes'])}, with at most "
        f"{size(facts['buffer_bytes'])} of them held for no tensor.",
        path=path,
        device=target.device,
        **facts,
    )


def _types(target: Target, path: str, f: safe_open) -> Iterator[Finding]:
    """Element types that the framework lacks: a load of all would end at the first of them."""
    catalogue = f._catalogue
    for dtype in dict.fromkeys(catalogue.dtypes):
        try:
            with about(catalogue.names[catalogue.dtypes.index(dtype)]):
                f._checkpoint.framework.dtype(dtype)
        except SafetensorError as e:
            yield fail("types", f"{path}: {sentence(e)}", path=path, dtype=dtype)


def _load(target: Target, path: str, f: safe_open) -> Iterator[Finding]:
    found = _small_tensor(f)
    started = time.perf_counter()
    if not len(f):
        yield note("load", f"{path}: there is no tensor to load.", path=path)
        return
    if found is None:
        what, loaded = f"the first {size(SAMPLE_BYTES)} of its smallest tensor", _load_part(f)
    else:
        what, loaded = f"its tensor {found!r}", _load_tensor(target, path, found)
    milliseconds = 1e3 * (time.perf_counter() - started)
    text = f"{path}: loaded {what} ({loaded:,} bytes) to {target.device} in {milliseconds:.1f} ms."
    yield ok("load", text, path=path, device=target.device, bytes=loaded, milliseconds=milliseconds)


def _load_from_memory(target: Target) -> Finding:
    assert target.engine is not None
    descriptor: int = call(target.engine.rehearsalFile)
    try:
        path = f"/proc/self/fd/{descriptor}"
        with _open(target, path) as f:
            name = _small_tensor(f)
        assert name is not None
        started = time.perf_counter()
        loaded = _load_tensor(target, path, name)
    finally:
        os.close(descriptor)
    milliseconds = 1e3 * (time.perf_counter() - started)
    text = f"Loaded {plural(loaded, 'byte')} from memory to {target.device} in {milliseconds:.1f} ms."
    return ok("load", text, device=target.device, bytes=loaded, milliseconds=milliseconds)


def _small_tensor(f: safe_open) -> str | None:
    """The first tensor that holds something, is small enough, and of a type that the framework has."""
    catalogue = f._catalogue
    empty = None
    for name, dtype, count in zip(catalogue.names, catalogue.dtypes, catalogue.sizes):
        if count > SAMPLE_BYTES:
            continue
        try:
            f._checkpoint.framework.dtype(dtype)
        except SafetensorError:
            continue
        if count:
            return name
        empty = empty or name
    return empty


def _load_tensor(target: Target, path: str, name: str) -> int:
    """Loads one the way that engines load all; its bytes."""
    with _open(target, path, tensor_filter=[name], tensor_name_match_mode="exact") as f:
        tensors = [tensor for _, tensor in f.tensors()]
        if target.framework == "pt":
            # Copies to a GPU fail when somebody waits for them.
            tensors = [tensor.cpu() for tensor in tensors]
        return sum(int(tensor.nbytes) for tensor in tensors)


def _load_part(f: safe_open) -> int:
    """Loads the beginning of the smallest tensor, where all are large; its bytes."""
    sizes = f._catalogue.sizes
    smallest = min(range(len(sizes)), key=sizes.__getitem__)
    part = min(SAMPLE_BYTES, sizes[smallest])
    room = f._checkpoint.framework.empty("U8", (part,))
    _reads.into(f._checkpoint, [(smallest, 0, part, room)])
    return len(room.cpu() if f.framework == "pt" else room)
