"""What becomes of tensors as they come, and the checksum over all of them."""

import time
import zlib

import checkpoints

DTYPES = {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F32": "float32"}
# Words that are summed at once.
WORDS = 4 << 20


def synchronize(device):
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def drop(pairs, _):
    count = 0
    for _name, _tensor in pairs:
        count += 1
    return count, None


def keep(pairs, _):
    kept = dict(pairs)
    return len(kept), kept


def into_parameters(pairs, parameters):
    count = 0
    for name, tensor in pairs:
        parameters[name].copy_(tensor)
        count += 1
    return count, None


def first(pairs, _):
    pairs = iter(pairs)
    next(pairs)
    # Kept, for what it still has under way to end behind the clock, and its numbers to count.
    return 1, pairs


CONSUMERS = {"drop": drop, "keep": keep, "parameter": into_parameters, "first": first}


def parameters_of(files, device):
    """Empty tensors by the names of all."""
    import torch

    return {
        name: torch.empty(tuple(entry["shape"]), dtype=getattr(torch, DTYPES[entry["dtype"]]), device=device)
        for path in files for name, entry in checkpoints.read_header(path).items()
    }  # fmt: skip


def timed(opened, files, device, consume, parameters=None):
    """One load, from the call that opens to a synchronisation behind the last tensor; closing is not in it.

    Returns
    -------
    dict
        Seconds, seconds until the call that opens came back, seconds of closing, tensors, the loader's stats; and
        seconds without opening and without waiting for bytes, None where the loader does not tell.
    """
    synchronize(device)
    start = time.perf_counter()
    with opened(files, device) as pairs:
        is_open = time.perf_counter()
        count, kept = CONSUMERS[consume](pairs, parameters)
        synchronize(device)
        end = time.perf_counter()
        close = getattr(kept, "close", None)
        if close is not None:
            close()
        del kept, close
        stats = pairs.stats()
        closing = time.perf_counter()
    closed = time.perf_counter()
    waited = stats.get("waits", {}).get("caller")
    return {
        "seconds": end - start, "open_seconds": is_open - start, "close_seconds": closed - closing,
        "tensors": count, "stats": stats,
        "python_seconds": None if waited is None else end - is_open - waited,
    }  # fmt: skip


class Checksum:
    """A sum over all tensors, in whatever order they come.

    Every word counts with its place in the tensor, every tensor with its name, type and shape: what is swapped
    or shifted is seen. Modulo 2**64.
    """

    def __init__(self, device):
        import torch

        self._torch = torch
        self._weights = torch.arange(1, 2 * WORDS, 2, dtype=torch.int64, device=device)
        self._words = torch.zeros(WORDS, dtype=torch.int64, device=device)
        self.value = 0

    def add(self, name, tensor):
        torch = self._torch
        octets = tensor.reshape(-1).view(torch.uint8)
        buffer = self._words.view(torch.uint8)
        total = 0
        for number, start in enumerate(range(0, octets.numel(), 8 * WORDS)):
            part = octets[start : start + 8 * WORDS]
            count = -(-part.numel() // 8)
            self._words[count - 1] = 0
            # Copied, as no view of words fits bytes that start anywhere.
            buffer[: part.numel()].copy_(part)
            total += (2 * number + 1) * int((self._words[:count] * self._weights[:count]).sum())
        known_as = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        self.value = (self.value + (2 * known_as + 1) * (total + 1)) % 2**64


def checksum(opened, files, device, consume):
    """The checksum of one load, as text; of kept tensors once all of them are there."""
    total = Checksum(device)
    with opened(files, device) as pairs:
        kept = list(pairs) if consume == "keep" else pairs
        for name, tensor in kept:
            total.add(name, tensor)
        synchronize(device)
    return f"{total.value:016x}"
