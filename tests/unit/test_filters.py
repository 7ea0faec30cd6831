"""tensor_filter: which names a pattern selects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from instanttensor import safe_open
from instanttensor._filters import matcher
from samples import stored, write

NAMES = ["layers.0.weight", "layers.1.weight", "layers.10.bias", "Layers.0.weight", "a[0]", "", "line\nbreak", "é"]


def selected(patterns: Any, mode: str) -> list[str]:
    matches = matcher(patterns, mode)
    return NAMES if matches is None else [name for name in NAMES if matches(name)]


@pytest.mark.parametrize(
    ("patterns", "mode", "expected"),
    [
        (None, "glob", NAMES),
        ([], "glob", []),
        ([], "exact", []),
        ([], "regex", []),
        (["*"], "glob", NAMES),
        (["layers.*"], "glob", NAMES[:3]),
        (["layers.?.weight"], "glob", NAMES[:2]),
        (["layers.[!0]*"], "glob", NAMES[1:3]),
        (["layers"], "glob", []),
        (["layers.0.weight", "*.bias"], "glob", [NAMES[0], NAMES[2]]),
        (["a[0]"], "glob", []),
        (["a[[]0]"], "glob", ["a[0]"]),
        ([""], "glob", [""]),
        (["line*"], "glob", ["line\nbreak"]),
        (["a[0]", "layers.*"], "exact", ["a[0]"]),
        ([r"layers\.\d+\.(weight|bias)"], "regex", NAMES[:3]),
        (["layers"], "regex", []),
        (["(?i:layers.0.weight)"], "regex", [NAMES[0], NAMES[3]]),
        (["line.break"], "regex", []),
        (["(?s)line.break", "é"], "regex", ["line\nbreak", "é"]),
        (("é", "é"), "exact", ["é"]),
    ],
)
def test_what_is_selected(patterns: Any, mode: str, expected: list[str]) -> None:
    assert selected(patterns, mode) == expected


@pytest.mark.parametrize(
    ("patterns", "mode", "kind", "words"),
    [
        ("a*", "glob", TypeError, "tensor_filter: expected a list of str, got a single str"),
        (b"a", "glob", TypeError, "tensor_filter: expected a list of str, got a single bytes"),
        (5, "glob", TypeError, "tensor_filter: expected a list of str, got int"),
        (["a", 5], "glob", TypeError, "tensor_filter: expected a list of str, found a int in it"),
        (None, "fuzzy", ValueError, "tensor_name_match_mode='fuzzy': expected one of glob, exact, regex"),
        (["a"], None, ValueError, "tensor_name_match_mode=None: expected one of glob, exact, regex"),
        (["a", "("], "regex", ValueError,
         "tensor_filter: '(' is no regular expression: missing ), unterminated subpattern at position 0"),
    ],
)  # fmt: skip
def test_what_is_refused(patterns: Any, mode: str, kind: type[Exception], words: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"a": stored("U8", [1])})
    with pytest.raises(kind) as refused:
        safe_open(path, "pt", tensor_filter=patterns, tensor_name_match_mode=mode)  # type: ignore[arg-type]
    assert str(refused.value) == words


def test_only_what_is_selected_exists_is_counted_and_is_read(tmp_path: Path) -> None:
    tensors = {name: stored("F32", [1 << 16], number) for number, name in enumerate(NAMES)}
    path = write(tmp_path / "a.safetensors", tensors)
    wanted = ["layers.*.bias"]
    with safe_open(path, "pt", tensor_filter=wanted, backend="MMAP") as f:
        assert f.keys() == f.offset_keys() == list(f) == ["layers.10.bias"]
        assert len(f) == 1
        assert f.total_tensor_size == 4 << 16
        assert [name for name, _ in f.tensors()] == ["layers.10.bias"]
        assert list(f.get_tensors()) == ["layers.10.bias"]
        assert f.stats()["read_bytes"] == 2 * (4 << 16)
    assert wanted == ["layers.*.bias"]


def test_selecting_nothing_is_no_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"a": stored("U8", [1])}, {"k": "v"})
    with safe_open(path, "pt", tensor_filter=[]) as f:
        assert (f.keys(), len(f), f.total_tensor_size, list(f.tensors()), f.get_tensors()) == ([], 0, 0, [], {})
        assert f.metadata() == {"k": "v"}
