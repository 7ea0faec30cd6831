"""Files that are no safetensors files: ten faults by name, and the same verdict as safetensors on anything else."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st
from instanttensor import safe_open
from safetensors import SafetensorError
from samples import header_of, raw, stored, write

DTYPES = (
    "BOOL, F4, F6_E2M3, F6_E3M2, U8, I8, F8_E5M2, F8_E4M3, F8_E8M0, F8_E4M3FNUZ, F8_E5M2FNUZ, I16, U16, F16, BF16, "
    "I32, U32, F32, C64, F64, I64, U64"
)


def entry(dtype: str = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def js(**tensors: Any) -> str:
    return json.dumps(tensors)


JSON = "InvalidHeaderDeserialization"

# fault, header, data, the header's length where it lies, what the message says behind the file's name
FAULTS: dict[str, tuple[str, str | bytes, bytes, int | None, str]] = {
    "too_large": (
        "HeaderTooLarge", "{}", b"", 100_000_001,
        "expected a header of at most 100,000,000 bytes, found a length of 100,000,001 at offset 0",
    ),
    "far_too_large": (
        "HeaderTooLarge", "{}", b"", (1 << 64) - 1,
        "expected a header of at most 100,000,000 bytes, found a length of 18,446,744,073,709,551,615 at offset 0",
    ),
    "a_git_lfs_pointer": (
        "HeaderTooLarge", "https://git-lfs.github.com/spec/v1\n", b"", int.from_bytes(b"version ", "little"),
        "expected a header of at most 100,000,000 bytes, found a length of 2,336,927,755,350,992,246 at offset 0: "
        "it begins like a Git LFS pointer, which stands for the file until git lfs pull fetches it",
    ),
    "text": (
        "HeaderTooLarge", " card\n", b"", int.from_bytes(b"# Model\n", "little"),
        "expected a header of at most 100,000,000 bytes, found a length of 751,086,719,902,490,659 at offset 0: "
        "it begins with text",
    ),
    "length_beyond_the_end": (
        "InvalidHeaderLength", "{}", b"", 3, "expected a header of 3 bytes at offset 8, found the file's end at 10",
    ),
    "not_utf8": ("InvalidHeader", b"\xff{}", b"", None, "expected UTF-8, found 0xff at offset 8"),
    "overlong_utf8": (
        "InvalidHeader", b'{"\xc0\x80":1}', b"", None, "expected UTF-8, found 0xc0 at offset 10",
    ),
    "surrogate_in_utf8": (
        "InvalidHeader", b'{"\xed\xa0\x80":1}', b"", None, "expected UTF-8, found 0xed at offset 10",
    ),
    "empty": (JSON, "", b"", None, "expected an object of tensors, found the end of the header, at offset 8"),
    "half_an_object": (JSON, "{", b"", None, "expected more JSON, found the end of the header, at offset 9"),
    "an_array": (JSON, "[]", b"", None, "expected an object of tensors, found an array, at offset 8"),
    "unknown_dtype": (
        JSON, js(a=entry("F33")), b"1234", None,
        f'tensor "a": expected a dtype ({DTYPES}), found "F33", at offset 24',
    ),
    "float_offset": (
        JSON, js(a=entry(offsets=(0.0, 4))), b"1234", None,
        'tensor "a": expected data_offsets to hold integers from 0 to 2^64 - 1, found 0.0, at offset 62',
    ),
    "negative_dimension": (
        JSON, js(a=entry(shape=(-1,))), b"1234", None,
        'tensor "a": expected shape to hold integers from 0 to 2^64 - 1, found -1, at offset 41',
    ),
    "no_offsets": (
        JSON, '{"a":{"dtype":"F32","shape":[1]}}', b"", None,
        'tensor "a": expected data_offsets, found none, at offset 39',
    ),
    "metadata_of_numbers": (
        JSON, '{"__metadata__":{"a":1}}', b"", None, 'expected __metadata__ "a" to be a string, found 1, at offset 29',
    ),
    "metadata_twice": (
        JSON, '{"__metadata__":{},"__metadata__":{}}', b"", None,
        "expected one __metadata__, found a second one, at offset 27",
    ),
    "leading_gap": (
        "InvalidOffset", js(a=entry(offsets=(4, 8))), b"12345678", None,
        'tensor "a": expected data_offsets to start at 0, as the first bytes of the data do, found [4, 8]',
    ),
    "hole": (
        "InvalidOffset", js(a=entry(), b=entry(offsets=(8, 12))), b"123456789012", None,
        'tensor "b": expected data_offsets to start at 4, where the tensor before it ends, found [8, 12]',
    ),
    "overlap": (
        "InvalidOffset", js(b=entry(offsets=(2, 6)), a=entry()), b"123456", None,
        'tensor "b": expected data_offsets to start at 4, where the tensor before it ends, found [2, 6]',
    ),
    "end_before_start": (
        "InvalidOffset", js(a=entry(), b=entry(offsets=(4, 0))), b"1234", None,
        'tensor "b": expected data_offsets that end where they start or later, found [4, 0]',
    ),
    "product_of_the_shape_overflows": (
        "ValidationOverflow", js(a=entry(shape=(1 << 32, 1 << 32))), b"1234", None,
        'tensor "a": expected a size in bits below 2^64, found F32 of shape [4294967296, 4294967296]',
    ),
    "bits_overflow": (
        "ValidationOverflow", js(a=entry(shape=(1 << 59,))), b"1234", None,
        'tensor "a": expected a size in bits below 2^64, found F32 of shape [576460752303423488]',
    ),
    "half_a_byte": (
        "MisalignedSlice", js(a=entry("F4", (3,), (0, 1))), b"1", None,
        'tensor "a": expected whole bytes, found F4 of shape [3], 12 bits',
    ),
    "size_of_another_shape": (
        "TensorInvalidInfo", js(a=entry(shape=(2,))), b"1234", None,
        'tensor "a": expected 8 bytes for F32 of shape [2], found 4 at data_offsets [0, 4]',
    ),
    "trailing_byte": (
        "MetadataIncompleteBuffer", js(a=entry()), b"12345", None,
        "expected 4 bytes of data behind the header, which ends at 69, found 5: "
        "the file has bytes of no tensor (it has 74 bytes)",
    ),
    "cut_short": (
        "MetadataIncompleteBuffer", js(a=entry()), b"123", None,
        "expected 4 bytes of data behind the header, which ends at 69, found 3: "
        "the file was cut short (it has 72 bytes)",
    ),
}  # fmt: skip

# How safetensors writes them.
IN_RUST = {
    "header too small": "HeaderTooSmall",
    "header too large": "HeaderTooLarge",
    "invalid header length": "InvalidHeaderLength",
    "invalid UTF-8 in header": "InvalidHeader",
    "invalid JSON in header": JSON,
    "invalid offset for tensor": "InvalidOffset",
    "overflow computing buffer size": "ValidationOverflow",
    "The slice is slicing for subbytes": "MisalignedSlice",
    "invalid shape, data type, or offset": "TensorInvalidInfo",
    "incomplete metadata, file not fully covered": "MetadataIncompleteBuffer",
}


def verdict(opener: Callable[..., Any], path: Path) -> str:
    """The fault's name, or the tensors that were found."""
    try:
        with opener(path, "pt") as f:
            found = {n: (f.get_slice(n).get_dtype(), f.get_slice(n).get_shape()) for n in sorted(f.keys())}
            return f"{found} {f.metadata()}"
    except SafetensorError as error:
        text = str(error).removeprefix("Error while deserializing header: ")
        for start, name in IN_RUST.items():
            if text.startswith(start):
                return name
        return text.split(":")[0]


def agree(path: Path) -> None:
    ours, theirs = verdict(safe_open, path), verdict(safetensors.safe_open, path)
    # Of two tensors with the same range, chance decides which one the reference looks at first, so
    # that either may be at fault.
    if {ours, theirs} <= OF_THE_LAYOUT and same_range_twice(path):
        return
    assert ours == theirs


OF_THE_LAYOUT = {"InvalidOffset", "ValidationOverflow", "MisalignedSlice", "TensorInvalidInfo"}


def same_range_twice(path: Path) -> bool:
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    entries = [value for name, value in header.items() if name != "__metadata__"]
    ranges = [tuple(e["data_offsets"] if isinstance(e, dict) else e[2]) for e in entries]
    return len(set(ranges)) < len(ranges)


@pytest.mark.usefixtures("nothing_stays")
@pytest.mark.parametrize("case", FAULTS)
def test_each_fault_is_told_by_name_with_the_file(case: str, tmp_path: Path) -> None:
    fault, header, data, length, words = FAULTS[case]
    path = raw(tmp_path / "bad.safetensors", header, data, length=length)
    with pytest.raises(SafetensorError) as refused:
        safe_open(path, "pt")
    assert str(refused.value) == f"Error while deserializing header: {fault}: {path}: {words}"
    assert type(refused.value) is SafetensorError
    assert refused.value.__cause__ is None
    agree(path)


@pytest.mark.parametrize("count", range(8))
def test_a_file_shorter_than_the_length_of_its_header(count: int, tmp_path: Path) -> None:
    path = tmp_path / "short.safetensors"
    path.write_bytes(bytes(count))
    with pytest.raises(SafetensorError) as refused:
        safe_open(path, "pt")
    assert str(refused.value) == (
        f"Error while deserializing header: HeaderTooSmall: {path}: "
        f"expected at least the 8 bytes of the header's length, found a file of {count}"
    )


def test_the_ten_faults_are_all_there() -> None:
    assert {fault for fault, *_ in FAULTS.values()} | {"HeaderTooSmall"} == set(IN_RUST.values())


def test_among_many_files_the_first_bad_one_in_order_is_named(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path / f"{name}.safetensors", {name: stored("F32", [2])})
    for name in ("b2", "b1"):
        raw(tmp_path / f"{name}.safetensors", "{")
    with pytest.raises(SafetensorError) as refused:
        safe_open(tmp_path, "pt")
    assert str(refused.value).startswith(f"Error while deserializing header: {JSON}: {tmp_path}/b1.safetensors: ")


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ("{}", b""),
        ("  \n\t\r{}", b""),
        ("{}   \n ", b""),
        ('{"__metadata__":null}', b""),
        ('{"__metadata__":{}}', b""),
        ('{"":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"1"),
        ('{"a":{"shape":[1],"more":{"x":[1.5e3,null,true,"\\ud83d\\ude00"]},"data_offsets":[0,1],"dtype":"U8"}}', b"1"),
        ('{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}', b"1"),
        ('{"a":{"dtype":"F32","shape":[0,7],"data_offsets":[0,0]}}', b""),
        ('{"a":{"dtype":"F32","shape":[0,9223372036854775808],"data_offsets":[0,0]}}', b""),
        (js(b=entry("U8", (), (1, 2)), a=entry("I8", (), (0, 1))), b"12"),
        # The last entry of a name counts, and the offsets are checked after that.
        (js(a=entry("F64", (9,), (7, 9)))[:-1] + "," + js(a=entry("U8", (), (0, 1)))[1:], b"1"),
        ('{"\\u0000":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"1"),
    ],
)  # fmt: skip
def test_what_the_reference_accepts_is_accepted(header: str, data: bytes, tmp_path: Path) -> None:
    path = raw(tmp_path / "a.safetensors", header, data)
    with safe_open(path, "pt") as f:
        f.keys()
    agree(path)


@pytest.mark.parametrize(
    "header",
    ["{}\0\0", "{} {}", "{},", "\ufeff{}", "{'a':1}", '{"a":1}', '{"a":null}', '{"__metadata__":[]}', "NaN", "{//}\n}",
     '{"__metadata__":{"a":null}}', '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}}',
     '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}}', '{"a":{"dtype":"u8","shape":[1],"data_offsets":[0,1]}}',
     '{"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}}',
     '{"a":{"dtype":"U8","shape":[1e0],"data_offsets":[0,1]}}',
     '{"a":{"dtype":"U8","shape":["1"],"data_offsets":[0,1]}}',
     '{"a":{"dtype":"U8","shape":[01],"data_offsets":[0,1]}}',
     '{"a":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}}', '{"\\ud800":{}}',
     '{"a":{"dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,1]}}'],
)  # fmt: skip
def test_what_the_reference_refuses_is_refused(header: str, tmp_path: Path) -> None:
    path = raw(tmp_path / "a.safetensors", header, b"1")
    with pytest.raises(SafetensorError, match=JSON):
        safe_open(path, "pt")
    agree(path)


SEED = header_of(
    {"a": stored("F32", [2, 3]), "b.c": stored("BF16", [4]), "é\0": stored("U8", [0]), "f": stored("F4", [2])},
    {"format": "pt"},
)
SEED_DATA = bytes(33)
VALUES: list[Any] = [
    0, 1, 3, 4, 8, 24, 32, 33, -1, 2.0, 1e300, 2**31, 2**32, 2**63, 2**64 - 1, 2**64, True, None, "", "F32", "U8", "F4",
    "BF16", [], [0], [0, 0], [0, 24], [24, 32], [32, 33], {}, {"F32": None},
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] + [deeper for key, below in inside for deeper in places(below, (*path, key))]


def changed(header: Any, place: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    header = json.loads(json.dumps(header))
    holder = header
    for key in place[:-1]:
        holder = holder[key]
    change(holder, place[-1])
    return header


@settings(max_examples=400)
@given(st.data())
def test_a_changed_header_gets_the_verdict_of_the_reference(data: st.DataObject) -> None:
    header: Any = SEED
    for _ in range(data.draw(st.integers(1, 2))):
        candidates = [place for place in places(header) if place]
        if not candidates:
            break
        place = data.draw(st.sampled_from(candidates))
        value = data.draw(st.sampled_from(VALUES))

        def replace(holder: Any, key: Any, value: Any = value) -> None:
            holder[key] = value

        def remove(holder: Any, key: Any) -> None:
            del holder[key]

        header = changed(header, place, remove if data.draw(st.integers(0, 4)) == 0 else replace)
    size = data.draw(st.sampled_from([33, 33, 33, 32, 34, 0, 24]))
    with tempfile.TemporaryDirectory() as folder:
        agree(raw(Path(folder, "a.safetensors"), json.dumps(header, ensure_ascii=False), bytes(size)))


@settings(max_examples=400)
@given(st.integers(0, 2**32), st.integers(1, 3), st.booleans())
def test_changed_bytes_get_the_verdict_of_the_reference(seed: int, changes: int, fitting: bool) -> None:
    chance = random.Random(seed)
    text = bytearray(json.dumps(SEED, ensure_ascii=False).encode())
    length = len(text)
    for _ in range(changes):
        at = chance.randrange(len(text))
        kind = chance.randrange(4)
        byte = chance.choice(b'{}[]":,\\ 0123456789.-eE\x00\x1f\x7f\x80\xff\xc3\xe2\xf0antu')
        if kind == 0:
            del text[at]
        elif kind == 1:
            text.insert(at, byte)
        elif kind == 2:
            text[at] = byte
        else:
            start, end = sorted((at, chance.randrange(len(text))))
            text[start:start] = text[start : min(end, start + 8)]
    with tempfile.TemporaryDirectory() as folder:
        agree(raw(Path(folder, "a.safetensors"), bytes(text), SEED_DATA, length=None if fitting else length))
