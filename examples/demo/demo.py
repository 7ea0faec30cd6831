"""Loads a checkpoint, proves that every tensor is right and, with ``--embed``, computes with it.

Usage: demo.py [--embed] CHECKPOINT (a folder of safetensors files, or one such file)
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

SENTENCES = (
    "The loader copies weights from the disk to the graphics card.",
    "Model parameters travel from storage into GPU memory.",
    "My grandmother grows tomatoes behind the house.",
)


def main() -> int:
    parser = argparse.ArgumentParser(description="Loads a checkpoint and compares every tensor with safetensors.")
    parser.add_argument("checkpoint", type=Path, help="a folder of safetensors files, or one such file")
    parser.add_argument("--embed", action="store_true", help="the folder holds a BERT model: embed three sentences")
    options = parser.parse_args()
    try:
        run(options.checkpoint, options.embed)
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        print(f"demo: {error or type(error).__name__}", file=sys.stderr)
        return 1
    return 0


def run(checkpoint: Path, embed: bool) -> None:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"Loading {checkpoint} on {torch.cuda.get_device_name() if device == 'cuda' else 'the CPU'}.")
    print(load(checkpoint, device))
    weights = compare(checkpoint, device, keep=embed)
    if embed:
        show_similarities(embeddings(checkpoint, weights, device))


def load(checkpoint: Path, device: str) -> str:
    """The timed pass: every tensor passes by once and nothing else is done. Returns what there is to say of it."""
    import torch
    from instanttensor import safe_open

    with safe_open(checkpoint, framework="pt", device=device, progress=True) as file:
        start = time.perf_counter()
        for _name, _tensor in file.tensors():
            pass
        if device == "cuda":
            torch.cuda.synchronize()
        return summary(file.stats(), time.perf_counter() - start)


def compare(checkpoint: Path, device: str, keep: bool) -> dict[str, Any]:
    """Loads again, file by file, and compares each tensor with what safetensors reads; returns them where asked to."""
    import torch
    from instanttensor import safe_open
    from safetensors import safe_open as reference_open

    kept: dict[str, Any] = {}
    count = 0
    for path in files_of(checkpoint):
        with (
            safe_open(path, framework="pt", device=device) as file,
            reference_open(path, framework="pt", device="cpu") as reference,
        ):
            if set(file.keys()) != set(reference.keys()):
                raise RuntimeError(f"{path.name}: the names are not those that safetensors reads")
            for name, tensor in file.tensors():
                theirs = reference.get_tensor(name)
                same_kind = tensor.dtype == theirs.dtype and tensor.shape == theirs.shape
                if not (same_kind and torch.equal(as_bytes(tensor), as_bytes(theirs))):
                    raise RuntimeError(f"{path.name}: {name} differs from what safetensors reads")
                count += 1
                if keep:
                    kept[name] = tensor
    print(f"All {count:,} tensors are equal to what safetensors reads, bit by bit.")
    return kept


def files_of(checkpoint: Path) -> list[Path]:
    if checkpoint.is_file():
        return [checkpoint]
    for index in checkpoint.glob("*.safetensors.index.json"):
        return sorted({checkpoint / name for name in json.loads(index.read_text())["weight_map"].values()})
    return sorted(checkpoint.glob("*.safetensors"))


def as_bytes(tensor: Any) -> Any:
    import torch

    return tensor.cpu().reshape(-1).view(torch.uint8)


def embeddings(folder: Path, weights: dict[str, Any], device: str) -> Any:
    """The sentences through the model: the mean of the tokens' vectors, brought to length 1."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    model = BertModel(BertConfig.from_json_file(folder / "config.json")).to(device).eval()
    missing, unexpected = model.load_state_dict(weights, strict=False)
    # A buffer that older versions of transformers saved: it only counts the positions.
    if missing or set(unexpected) - {"embeddings.position_ids"}:
        raise RuntimeError(f"the weights do not fit the model: missing {missing}, unexpected {unexpected}")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(list(SENTENCES), padding=True, return_tensors="pt").to(device)
    with torch.inference_mode():
        vectors = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(-1)
    means = (vectors * mask).sum(dim=1) / mask.sum(dim=1)
    return torch.nn.functional.normalize(means, dim=1)


def show_similarities(vectors: Any) -> None:
    similarities = (vectors @ vectors.T).tolist()
    for number, sentence in enumerate(SENTENCES, start=1):
        print(f"  {number}. {sentence}")
    for first, second in ((0, 1), (0, 2), (1, 2)):
        print(f"  similarity of {first + 1} and {second + 1}: {similarities[first][second]:.3f}")


def summary(stats: dict[str, Any], seconds: float) -> str:
    waits = ", ".join(f"{stage} {spent:.3f} s" for stage, spent in stats["waits"].items())
    modes: dict[str, int] = {}
    for file in stats["files"]:
        modes[file["mode"]] = modes.get(file["mode"], 0) + 1
    read = ", ".join(f"{count} {'file' if count == 1 else 'files'} {mode}" for mode, count in modes.items())
    return (
        f"{stats['bytes']:,} bytes in {seconds:.3f} s, {stats['bytes'] / seconds / 1e9:.2f} GB/s; "
        f"read: {read}; all threads together spent: {waits or 'nothing'}"
    )


if __name__ == "__main__":
    sys.exit(main())
