"""Checkpoints of very many tensors, and the longest header that the format allows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lifecycle_support import run

MAX_HEADER_BYTES = 100_000_000


def write_header(path: Path, header: bytes, data: bytes) -> Path:
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


@pytest.mark.parametrize("framework", ["np", "pt"])
def test_ninety_one_thousand_tensors_fit_the_default_heap(tmp_path: Path, framework: str) -> None:
    count = 91_000
    entries = {
        f"model.layers.{n // 256}.mlp.experts.{n % 256}.down_proj.weight_scale_inv":
            {"dtype": "F32", "shape": [1, 2], "data_offsets": [8 * n, 8 * n + 8]}
        for n in range(count)
    }  # fmt: skip
    data = b"".join(n.to_bytes(4, "little") + b"\0\0\0\0" for n in range(count))
    path = write_header(tmp_path / "many.safetensors", json.dumps(entries).encode(), data)
    out = run(
        """
        path, framework = sys.argv[1:]
        for copy in (True, False):
            with safe_open(path, framework, copy=copy) as f:
                tensors = dict(f.tensors())
                assert len(f) == len(tensors) == 91_000
                for n in (0, 1, 255, 256, 45_000, 90_999):
                    name = f"model.layers.{n // 256}.mlp.experts.{n % 256}.down_proj.weight_scale_inv"
                    for tensor in (tensors[name], f.get_tensor(name)):
                        assert tuple(tensor.shape) == (1, 2)
                        assert bytes(tensor.reshape(-1).tolist() and memoryview(
                            (tensor if framework == "np" else tensor.numpy()).tobytes())
                        ) == n.to_bytes(8, "little")
            tensors.clear()
        print("fine")
        """,
        path,
        framework,
    )
    assert out == "fine"


@pytest.mark.parametrize(
    ("size", "answer"), [(MAX_HEADER_BYTES, "['a']"), (MAX_HEADER_BYTES + 1, "SafetensorError HeaderTooLarge")]
)
def test_the_longest_header_and_one_that_is_longer(tmp_path: Path, size: int, answer: str) -> None:
    header = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    path = write_header(tmp_path / "long.safetensors", header.ljust(size), b"\1")
    out = run(
        """
        from safetensors import SafetensorError
        try:
            with safe_open(sys.argv[1], "np") as f:
                assert f.get_tensor("a").tolist() == [1]
                print(f.keys())
        except SafetensorError as e:
            print("SafetensorError", "HeaderTooLarge" if "HeaderTooLarge" in str(e) else e)
        """,
        path,
    )
    assert out == answer
