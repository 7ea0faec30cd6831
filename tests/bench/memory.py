"""What memory a load takes, looked at every two milliseconds while it runs; and what pinned and freed memory does."""

import threading
import time

from device_memory import Driver, Registered

PINNED_BLOCK_BYTES = 1 << 30
PINNED_TURNS = 4
PINNED_ROUNDS = 3
EVERY_SECONDS = 0.002
ZEROED_BYTES_PER_SECOND = 100e9
FIELDS = ("RssAnon", "RssFile", "RssShmem")


def resident():
    """Bytes of this process in memory, by kind: anonymous, mapped files, shared (tmpfs files among them)."""
    with open("/proc/self/status") as status:
        lines = dict(line.split(":", 1) for line in status)
    return {field: int(lines[field].split()[0]) << 10 for field in FIELDS}


def device_free(gpu):
    """Free bytes of a GPU by its number, by cuMemGetInfo; 0 without one."""
    if gpu is None:
        return 0
    import torch

    return torch.cuda.mem_get_info(gpu)[0]


def current_gpu(device):
    """The number of this thread's GPU; other threads have another one. None without a GPU."""
    if device != "cuda":
        return None
    import torch

    return torch.cuda.current_device()


class Watch:
    """The most that was taken at any moment of a context, above a start that was noted before."""

    def __init__(self, device):
        self._gpu = current_gpu(device)
        self._free = self._least_free = device_free(self._gpu)
        self._start = resident()
        self._most = dict.fromkeys((*FIELDS, "all"), 0)
        self._stop = threading.Event()

    def _look(self):
        now = resident()
        grown = {field: now[field] - self._start[field] for field in FIELDS}
        grown["all"] = sum(grown.values())
        self._most = {field: max(most, grown[field]) for field, most in self._most.items()}
        self._least_free = min(self._least_free, device_free(self._gpu))

    def _watch(self):
        while not self._stop.wait(EVERY_SECONDS):
            self._look()

    def __enter__(self):
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self._look()

    def found(self):
        """Bytes of the device, None without one; growth of resident memory, by kind and of all at one moment."""
        taken = self._free - self._least_free if self._gpu is not None else None
        return {"device_bytes": taken, "resident": self._most}


def settle(device, freed_bytes):
    """Waits until the driver has zeroed what was freed: it does so behind the caller's back, and until it is done
    (0.2 s for 60 GB on an H200) copies to fresh memory run at half their rate: see device_memory.py."""
    if device == "cuda":
        time.sleep(freed_bytes / ZEROED_BYTES_PER_SECOND)


def is_registered_resident(device):
    """Whether the driver pins a process's own memory, which Linux then counts as resident: so ours is pinned if it
    can be. None without a GPU."""
    if device != "cuda":
        return None
    try:
        Registered(Driver(current_gpu(device))).free()
    except RuntimeError:
        return False
    return True


def pinned_rates(device, meet):
    """Host to device from pinned memory, GB/s, in some rounds: what no loader can exceed. None without a GPU.

    `meet` is called before each round: processes that meet there are measured at once.
    """
    if device != "cuda":
        return []
    import torch

    host = torch.empty(PINNED_BLOCK_BYTES, dtype=torch.uint8, pin_memory=True)
    host.zero_()
    target = torch.empty(PINNED_BLOCK_BYTES, dtype=torch.uint8, device="cuda")
    target.copy_(host, non_blocking=True)
    torch.cuda.synchronize()
    rates = []
    for _ in range(PINNED_ROUNDS):
        meet()
        start = time.perf_counter()
        for _ in range(PINNED_TURNS):
            target.copy_(host, non_blocking=True)
        torch.cuda.synchronize()
        rates.append(PINNED_TURNS * PINNED_BLOCK_BYTES / (time.perf_counter() - start) / 1e9)
    del host, target
    torch.cuda.empty_cache()
    # torch keeps pinned memory for the next who asks; a loader that does would start with it.
    empty_host_cache = getattr(torch._C, "_host_emptyCache", None)
    if empty_host_cache is not None:
        empty_host_cache()
    return rates
