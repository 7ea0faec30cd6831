"""Writes checkpoints to measure with: random contents, many processes, always the same bytes for the same numbers.

    python tests/bench/checkpoints.py moe   DIR SHARDS GB_PER_SHARD
    python tests/bench/checkpoints.py small DIR TENSORS BYTES_EACH
    python tests/bench/checkpoints.py giant DIR TENSORS BYTES_EACH FILES
    python tests/bench/checkpoints.py hollow DIR TENSORS BYTES_EACH FILES
    python tests/bench/checkpoints.py many  DIR FILES TENSORS
    python tests/bench/checkpoints.py tiny  DIR

"moe" has the layout of Qwen3-30B-A3B: experts of 3 MiB, norms of 256 B and 4 KiB, one large embedding
a shard. "small" is a single file of equal tensors, "giant" equal tensors spread over files. "many" has the names,
types and shapes of DeepSeek-V3 and no contents: its files are holes behind their headers. "hollow" is "giant" with
no contents either: more than fits, where the storage is what is measured. "tiny" is a file of about 100 bytes.
"""

import json
import multiprocessing
import os
import struct
import sys
from pathlib import Path

import numpy as np

BLOCK_BYTES = 64 << 20
STRETCH_BYTES = 8 << 20
# What one task of a process writes.
PIECE_BYTES = 256 << 20
LAYER_EXPERTS = 24
# Holes behind their headers.
HOLLOW = ("many", "hollow")
ITEM_BYTES = {"BF16": 2, "F8_E4M3": 1, "F32": 4}
MIB = 1 << 20


def moe_entries(shard, target_bytes):
    """Names, types and shapes until the shard is full."""
    yield f"s{shard}.embed", "BF16", (151936 // 8, 2048)
    size = 151936 // 8 * 2048 * 2
    layer = 0
    while size < target_bytes:
        tensors = [(f"s{shard}.l{layer}.norm", (2048,)), (f"s{shard}.l{layer}.qnorm", (128,))]
        tensors += [(f"s{shard}.l{layer}.e{expert}.w", (768, 2048)) for expert in range(LAYER_EXPERTS)]
        for name, shape in tensors:
            yield name, "BF16", shape
            size += 2 * int(np.prod(shape))
        layer += 1


def quantised(name, rows, columns):
    """A matrix in fp8, and its scales, one for each 128 x 128."""
    yield f"{name}.weight", "F8_E4M3", (rows, columns)
    yield f"{name}.weight_scale_inv", "F32", (-(-rows // 128), -(-columns // 128))


def deepseek_entries():
    """As DeepSeek-V3 has them, layer by layer, and on for as many layers as are taken."""
    yield "model.embed_tokens.weight", "BF16", (129280, 7168)
    layer = 0
    while True:
        at = f"model.layers.{layer}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield f"{at}.{norm}.weight", "BF16", (7168,)
        yield f"{at}.self_attn.q_a_layernorm.weight", "BF16", (1536,)
        yield f"{at}.self_attn.kv_a_layernorm.weight", "BF16", (512,)
        for name, rows, columns in (
            ("q_a_proj", 1536, 7168), ("q_b_proj", 24576, 1536), ("kv_a_proj_with_mqa", 576, 7168),
            ("kv_b_proj", 32768, 512), ("o_proj", 7168, 16384),
        ):  # fmt: skip
            yield from quantised(f"{at}.self_attn.{name}", rows, columns)
        dense = layer < 3
        blocks = [("mlp", 18432)] if dense else [("mlp.shared_experts", 2048)]
        blocks += [] if dense else [(f"mlp.experts.{expert}", 2048) for expert in range(256)]
        for block, width in blocks:
            yield from quantised(f"{at}.{block}.gate_proj", width, 7168)
            yield from quantised(f"{at}.{block}.up_proj", width, 7168)
            yield from quantised(f"{at}.{block}.down_proj", 7168, width)
        if not dense:
            yield f"{at}.mlp.gate.weight", "BF16", (256, 7168)
            yield f"{at}.mlp.gate.e_score_correction_bias", "F32", (256,)
        layer += 1


def split(entries, count, files):
    """The first `count` entries in so many files, as even as can be."""
    for file in range(files):
        share = count // files + (file < count % files)
        yield [next(entries) for _ in range(share)]


def entries_of(kind, numbers):
    """A list of entries for each file."""
    if kind == "moe":
        shards, gigabytes = int(numbers[0]), float(numbers[1])
        return [list(moe_entries(shard, int(gigabytes * 1e9))) for shard in range(shards)]
    if kind == "small":
        count, size = map(int, numbers)
        return [[(f"model.layers.{i // 100}.experts.{i % 100}.weight", "BF16", (size // 2,)) for i in range(count)]]
    if kind in ("giant", "hollow"):
        count, size, files = map(int, numbers)
        return list(split(((f"giant.{i}.weight", "BF16", (size // 2048, 1024)) for i in range(count)), count, files))
    if kind == "many":
        files, count = map(int, numbers)
        return list(split(deepseek_entries(), count, files))
    if kind == "tiny":
        return [[("t", "BF16", (8,))]]
    raise ValueError(f"{kind!r} is no kind of checkpoint: moe, small, giant, hollow, many or tiny")


def needed_bytes(kind, numbers):
    """What it takes of its storage, at most."""
    if kind == "moe":
        # Every shard ends with a whole layer: a little more than asked for.
        return int(numbers[0] * (numbers[1] * 1e9 + 80 * MIB))
    if kind in ("small", "giant"):
        return int(numbers[0] * (numbers[1] + 100)) + MIB
    return {"many": 64 * MIB, "hollow": MIB, "tiny": 4096}[kind]


def write_header(path, entries):
    """A file with its header and a hole for its data.

    Returns
    -------
    tuple of int
        Bytes before the data, and bytes of data.
    """
    header = {}
    offset = 0
    for name, dtype, shape in entries:
        size = ITEM_BYTES[dtype] * int(np.prod(shape))
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + offset)
    return 8 + len(text), offset


_block = None


def _fill(piece):
    """Writes one piece: every stretch starts elsewhere in one block of random bytes."""
    global _block
    path, data_start, start, end, seed = piece
    if _block is None:
        # The least that serves: a tiny file should not wait for 64 MiB.
        size = BLOCK_BYTES if end > STRETCH_BYTES else 2 * STRETCH_BYTES
        _block = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    with open(path, "r+b") as file:
        for at in range(start, end, STRETCH_BYTES):
            size = min(STRETCH_BYTES, end - at)
            chosen = np.random.default_rng((seed, at)).integers(0, len(_block) - size + 1)
            file.seek(data_start + at)
            file.write(_block[chosen : chosen + size])


def write(kind, folder, *numbers):
    """Writes a checkpoint into a folder, which is made.

    Returns
    -------
    tuple of int
        Tensors, and bytes of their data.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = entries_of(kind, numbers)
    pieces = []
    total = 0
    for number, entries in enumerate(files):
        path = folder / f"model-{number + 1:05d}-of-{len(files):05d}.safetensors"
        data_start, size = write_header(path, entries)
        total += size
        starts = [] if kind in HOLLOW else range(0, size, PIECE_BYTES)
        pieces += [(path, data_start, at, min(at + PIECE_BYTES, size), number) for at in starts]
    workers = min(8, len(pieces), len(os.sched_getaffinity(0)))
    if workers > 1 and total > PIECE_BYTES:
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            pool.map(_fill, pieces, chunksize=1)
    else:
        for piece in pieces:
            _fill(piece)
    return sum(map(len, files)), total


def read_header(path):
    """Entries of a file by name, as its header has them, without metadata."""
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    return header


def main(kind, folder, *numbers):
    tensors, size = write(kind, folder, *map(float, numbers))
    print(f"{folder}: {tensors} tensors, {size / 1e9:.2f} GB")


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) > 2 else sys.exit(__doc__)
