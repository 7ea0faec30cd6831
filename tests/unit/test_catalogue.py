"""Names, types and shapes, as they come from the engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from instanttensor import safe_open


def write(path: Path, names: list[str]) -> Path:
    entries = {
        name: {"dtype": "U8", "shape": [2], "data_offsets": [2 * i, 2 * i + 2]} for i, name in enumerate(names)
    }
    header = json.dumps(entries).encode()
    data = bytes(range(2 * len(names)))
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


@pytest.mark.parametrize(
    "names",
    [
        [], [""], ["a"], ["", "b"], ["a", ""], ["ä", "𝄞b", "c"], ["\0"], ["\0", "\0\0", ""], ["a\0b", "a", "b"],
        ["x\0", "\0é", "y", "\n"],
    ],
)  # fmt: skip
def test_names_of_any_characters_keep_to_their_tensors(tmp_path: Path, names: list[str]) -> None:
    with safe_open(write(tmp_path / "a.safetensors", names), "np") as f:
        assert f.keys() == names
        assert [(name, tensor.tolist()) for name, tensor in f.tensors()] == [
            (name, [2 * i, 2 * i + 1]) for i, name in enumerate(names)
        ]


def test_a_name_of_two_entries_has_the_last(tmp_path: Path) -> None:
    header = (
        b'{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},'
        b'"a":{"shape":[1],"data_offsets":[2,3],"dtype":"I8"}}'
    )
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\1\2\xff")
    with safe_open(path, "np") as f:
        assert [(name, str(array.dtype), array.tolist()) for name, array in f.tensors()] == [
            ("b", "uint8", [1, 2]), ("a", "int8", [-1])
        ]  # fmt: skip
