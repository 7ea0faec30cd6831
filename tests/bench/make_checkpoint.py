"""Writes checkpoints to measure with.

    python tests/bench/make_checkpoint.py moe   DIR SHARDS GB_PER_SHARD
    python tests/bench/make_checkpoint.py small DIR TENSORS BYTES_EACH
    python tests/bench/make_checkpoint.py tiny  DIR

"moe" has the layout of Qwen3-30B-A3B: experts of 3 MiB, norms of 256 B and 4 KiB, one large embedding
a shard. "small" is a single file of equal tensors. "tiny" is a file of 100 bytes. Contents are random.
"""

import json
import multiprocessing
import os
import struct
import sys

import numpy as np

BLOCK_BYTES = 64 << 20
LAYER_EXPERTS = 24


def moe_entries(shard, target_bytes):
    """Names and shapes until the shard is full."""
    yield f"s{shard}.embed", (151936 // 8, 2048)
    size = 151936 // 8 * 2048 * 2
    layer = 0
    while size < target_bytes:
        tensors = [(f"s{shard}.l{layer}.norm", (2048,)), (f"s{shard}.l{layer}.qnorm", (128,))]
        tensors += [(f"s{shard}.l{layer}.e{expert}.w", (768, 2048)) for expert in range(LAYER_EXPERTS)]
        for name, shape in tensors:
            yield name, shape
            size += 2 * int(np.prod(shape))
        layer += 1


def write(path, entries, seed):
    """One bfloat16 file; every stretch of it starts elsewhere in one block of random bytes."""
    header = {}
    offset = 0
    for name, shape in entries:
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    block = np.random.default_rng(seed).integers(0, 256, min(BLOCK_BYTES, max(offset, 1)), dtype=np.uint8).tobytes()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        left, turn = offset, 0
        while left:
            start = turn * 7919 % min(4096, len(block))
            size = min(left, len(block) - start)
            file.write(memoryview(block)[start : start + size])
            left -= size
            turn += 1
    return len(header), offset


def _shard(arguments):
    folder, shard, target_bytes = arguments
    return write(f"{folder}/model-{shard:05d}.safetensors", moe_entries(shard, target_bytes), shard)


def main(kind, folder, *numbers):
    os.makedirs(folder, exist_ok=True)
    if kind == "moe":
        shards, gigabytes = int(numbers[0]), float(numbers[1])
        with multiprocessing.Pool(min(8, shards)) as pool:
            made = pool.map(_shard, [(folder, shard, int(gigabytes * 1e9)) for shard in range(shards)])
    elif kind == "small":
        count, size = int(numbers[0]), int(numbers[1])
        made = [write(f"{folder}/model.safetensors", ((f"t{i}", (size // 2,)) for i in range(count)), 0)]
    elif kind == "tiny":
        made = [write(f"{folder}/model.safetensors", [("t", (8,))], 0)]
    else:
        sys.exit(__doc__)
    print(f"{folder}: {sum(n for n, _ in made)} tensors, {sum(b for _, b in made) / 1e9:.2f} GB")


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) > 2 else sys.exit(__doc__)
