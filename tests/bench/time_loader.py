"""Times one loader over a checkpoint, in a process of its own, and prints one line of JSON.

    python tests/bench/time_loader.py LOADER FOLDER [REPEATS]

From the call that opens to a synchronisation behind the last tensor. CUDA's context is up before; so is
our JVM, whose start is timed apart. LOADER is one of those in LOADERS below. With a repeat count, later
figures are later opens in the same process. Tensors are dropped as they come. BENCH_DEVICE=cpu loads to the
host; BENCH_MEMORY=1 loads once more, and watches the device's memory.
"""

import glob
import json
import os
import sys
import time

import torch

DEVICE = os.environ.get("BENCH_DEVICE", "cuda")


def count(pairs):
    tensors = size = 0
    for _, tensor in pairs:
        tensors += 1
        size += tensor.numel() * tensor.element_size()
    return tensors, size


def instanttensor(files, copy):
    from instanttensor import safe_open

    with safe_open(list(files), framework="pt", device=0 if DEVICE == "cuda" else DEVICE, copy=copy) as f:
        return count(f.tensors())


def safetensors(files):
    from safetensors import safe_open

    def pairs():
        for path in files:
            with safe_open(path, framework="pt", device=DEVICE) as f:
                for name in f.keys():
                    yield name, f.get_tensor(name)

    return count(pairs())


def fastsafetensors(files):
    from fastsafetensors import SafeTensorsFileLoader, SingleGroup

    def pairs():
        for path in files:
            loader = SafeTensorsFileLoader(SingleGroup(), torch.device(DEVICE, 0), nogds=True)
            loader.add_filenames({0: [path]})
            buffers = loader.copy_files_to_device()
            for name in buffers.key_to_rank_lidx:
                yield name, buffers.get_tensor(name)
            buffers.close()
            loader.close()

    return count(pairs())


def runai(files):
    from runai_model_streamer import SafetensorsStreamer

    def pairs():
        with SafetensorsStreamer() as streamer:
            streamer.stream_files(files)
            for name, tensor in streamer.get_tensors():
                yield name, tensor.to(DEVICE)

    return count(pairs())


LOADERS = {
    "ours": lambda files: instanttensor(files, copy=False),
    "ours-copy": lambda files: instanttensor(files, copy=True),
    # The C++ package has the same name: put it first on PYTHONPATH.
    "cpp": lambda files: instanttensor(files, copy=False),
    "cpp-copy": lambda files: instanttensor(files, copy=True),
    "fastsafetensors": fastsafetensors,
    "runai": runai,
    "safetensors": safetensors,
}


def pinned_rate():
    """Host to device from pinned memory, GB/s: what no loader can exceed."""
    if DEVICE != "cuda":
        return None
    size = 1 << 28
    host = torch.empty(size, dtype=torch.uint8, pin_memory=True)
    target = torch.empty(size, dtype=torch.uint8, device="cuda")
    target.copy_(host, non_blocking=True)
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(16):
        target.copy_(host, non_blocking=True)
    torch.cuda.synchronize()
    rate = 16 * size / (time.perf_counter() - start) / 1e9
    del host, target
    torch.cuda.empty_cache()
    return rate


def synchronize():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def boot_seconds():
    """Our JVM's start; None for the peers."""
    try:
        from instanttensor import _bridge
    except ImportError:
        return None
    start = time.perf_counter()
    _bridge.engine()
    return time.perf_counter() - start


class MemoryWatch:
    """The least free device memory seen while a load runs, by cuMemGetInfo, as used below a start."""

    def __init__(self, free_at_start):
        import threading

        self._stop = threading.Event()
        self._start = self._least = free_at_start
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self):
        while not self._stop.wait(0.0005):
            self._least = min(self._least, torch.cuda.mem_get_info()[0])

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def used(self):
        return self._start - self._least


def main(loader, folder, repeats="1"):
    files = sorted(glob.glob(f"{folder}/*.safetensors"))
    rate = pinned_rate()
    if DEVICE == "cuda":
        torch.zeros(1, device="cuda")
        synchronize()
    boot = boot_seconds() if loader.startswith("ours") else None
    # Before the first open: what a loader keeps from one to the next is counted as well.
    free_at_start = torch.cuda.mem_get_info()[0] if DEVICE == "cuda" else 0
    seconds = []
    for _ in range(int(repeats)):
        start = time.perf_counter()
        tensors, size = LOADERS[loader](files)
        synchronize()
        seconds.append(time.perf_counter() - start)
    used = None
    if DEVICE == "cuda" and os.environ.get("BENCH_MEMORY"):
        with MemoryWatch(free_at_start) as watch:
            LOADERS[loader](files)
            synchronize()
        used = watch.used()
    print(json.dumps({
        "loader": loader, "tensors": tensors, "bytes": size, "seconds": seconds, "pinned_rate": rate,
        "boot_seconds": boot, "device_bytes": used,
    }))  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) > 2 else sys.exit(__doc__)
