"""The loaders: each is a context, entered by opening files, that answers an iterator of (name, tensor).

A new loader is a function here and an entry in LOADERS.
"""

import mmap
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

# For disks that want many reads at once.
DIRECT_THREADS = 32
DIRECT_BYTES = 4 << 20
# Threads that read, and MiB of a read, set by hand.
BY_HAND = ((4, 1), (8, 1), (16, 1), (32, 1), (64, 1), (16, 4), (64, 4))
SMALL_BUFFER_BYTES = 128 << 20


@dataclass(frozen=True)
class Loader:
    """One loader.

    Attributes
    ----------
    title : str
        For the table.
    module : str
        Tells by its import whether the loader is there.
    package : str
        Is installed by this name.
    open : callable
        Of files and a device, "cuda" or "cpu": a context, and in it `Pairs`. The GPU is the current one. Those of
        InstantTensor take more options of `safe_open`.
    needs_cuda : bool
    """

    title: str
    module: str
    package: str
    open: Callable
    needs_cuda: bool = False


class Pairs:
    """An iterator of (name, tensor), and what its loader can tell of itself."""

    def __init__(self, pairs, stats=dict):
        self._pairs = pairs
        self.stats = stats

    def __iter__(self):
        return iter(self._pairs)


def instanttensor(copy, **fixed):
    """Ours or the C++ one: whichever is first on the path; with options of `safe_open` that it always has."""

    @contextmanager
    def opened(files, device, **options):
        import torch
        from instanttensor import safe_open

        where = torch.cuda.current_device() if device == "cuda" else device
        with safe_open(list(files), framework="pt", device=where, copy=copy, **fixed, **options) as f:
            yield Pairs(f.tensors(), getattr(f, "stats", dict))

    return opened


@contextmanager
def safetensors(files, device):
    from safetensors import safe_open

    def pairs(closing):
        for path in files:
            closing.close()
            f = closing.enter_context(safe_open(path, framework="pt", device=device))
            for name in f.keys():
                tensor = f.get_tensor(name)
                # On the host it is a view of the mapped file, and nothing is read yet.
                yield name, tensor.clone() if device == "cpu" else tensor

    # The last file is closed with the context, as all files of other loaders are.
    with ExitStack() as closing:
        yield Pairs(pairs(closing))


@contextmanager
def fastsafetensors(files, device):
    import torch
    from fastsafetensors import SafeTensorsFileLoader, SingleGroup

    def pairs(closing):
        where = torch.device("cuda", 0) if device == "cuda" else torch.device(device)
        for path in files:
            closing.close()
            loader = SafeTensorsFileLoader(SingleGroup(), where, nogds=True)
            closing.callback(loader.close)
            loader.add_filenames({0: [path]})
            buffers = loader.copy_files_to_device()
            closing.callback(buffers.close)
            for name in buffers.key_to_rank_lidx:
                yield name, buffers.get_tensor(name)

    # As with safetensors.
    with ExitStack() as closing:
        yield Pairs(pairs(closing))


@contextmanager
def runai(files, device):
    from runai_model_streamer import SafetensorsStreamer

    with SafetensorsStreamer() as streamer:
        # With the device its own buffers are used again and again; without it, each would be ours to keep.
        streamer.stream_files(list(files), device="cuda:0" if device == "cuda" else device)
        yield Pairs(streamer.get_tensors())


@contextmanager
def plain_direct(files, device):
    """No loader: the files' bytes past the page cache into a few buffers, as fast as the storage gives them."""

    def read(thread):
        with mmap.mmap(-1, DIRECT_BYTES) as buffer:
            for path in files:
                descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
                try:
                    size = os.fstat(descriptor).st_size
                    for offset in range(thread * DIRECT_BYTES, size, DIRECT_THREADS * DIRECT_BYTES):
                        os.preadv(descriptor, [buffer], offset)
                finally:
                    os.close(descriptor)

    def pairs():
        with ThreadPoolExecutor(DIRECT_THREADS) as pool:
            list(pool.map(read, range(DIRECT_THREADS)))
        yield from ()

    yield Pairs(pairs())


LOADERS = {
    "ours": Loader("InstantTensor for Java, copy=False", "instanttensor._bridge", "instanttensor",
                   instanttensor(False)),
    "ours-copy": Loader("InstantTensor for Java, copy=True", "instanttensor._bridge", "instanttensor",
                        instanttensor(True)),
    "ours-alone": Loader("InstantTensor for Java, one rank alone", "instanttensor._bridge", "instanttensor",
                         instanttensor(False)),
    "cpp": Loader("InstantTensor (C++), copy=False", "instanttensor", "instanttensor", instanttensor(False), True),
    "cpp-copy": Loader("InstantTensor (C++), copy=True", "instanttensor", "instanttensor", instanttensor(True), True),
    "fastsafetensors": Loader("fastsafetensors", "fastsafetensors", "fastsafetensors", fastsafetensors),
    "runai": Loader("Run:ai Model Streamer", "runai_model_streamer", "runai-model-streamer", runai),
    "safetensors": Loader("safetensors", "safetensors", "safetensors", safetensors),
    "plain-direct": Loader("plain O_DIRECT read, no tensors", "mmap", "", plain_direct),
}  # fmt: skip

LOADERS |= {
    "ours-128MiB": Loader("InstantTensor for Java, buffer_size of 128 MiB", "instanttensor._bridge", "instanttensor",
                          instanttensor(False, buffer_size=SMALL_BUFFER_BYTES)),
    **{
        f"ours-{readers}x{mib}": Loader(
            f"InstantTensor for Java, {readers} readers, reads of {mib} MiB", "instanttensor._bridge",
            "instanttensor", instanttensor(False, concurrency=readers, chunk_size=mib << 20),
        )
        for readers, mib in BY_HAND
    },
}  # fmt: skip

# These yield no tensors: nothing to count or to compare.
READ_ONLY = ("plain-direct",)


def is_ours(loader):
    return loader.startswith("ours")


def is_cpp(loader):
    """Of the C++ package, which has our package's name."""
    return loader.startswith("cpp")
