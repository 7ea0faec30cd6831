"""What safe_open can be told: arguments before variables, and the limits of both."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from instanttensor import Backend, BackendPolicy, safe_open
from instanttensor._options import Options
from samples import READING_BACKENDS, bytes_of, io_uring, run, some_bytes, stored, write

NONE: dict[str, Any] = dict.fromkeys(
    ("buffer_size", "chunk_size", "concurrency", "io_depth", "max_free_mem_usage", "backend")
)
BACKENDS = "AIO, AIO_BUFFERED, URING, URING_BUFFERED, CUFILE, MMAP, BUFFERED"


def resolve(**given: Any) -> Options:
    return Options.resolve(**{**NONE, **given})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "a.safetensors", {"a": stored("F32", [100]), "b": stored("F32", [100])})


def test_without_any_all_is_left_to_the_engine() -> None:
    assert resolve() == Options(0, 0, 0, 0, 0.0, ())


@pytest.mark.parametrize(
    ("argument", "value", "field", "expected"),
    [
        ("buffer_size", 1, "buffer_bytes", 1),
        ("buffer_size", (1 << 63) - 1, "buffer_bytes", (1 << 63) - 1),
        ("chunk_size", 1, "chunk_bytes", 4096),
        ("chunk_size", 4097, "chunk_bytes", 8192),
        ("chunk_size", 64 << 20, "chunk_bytes", 64 << 20),
        ("concurrency", 0, "readers", 0),
        ("concurrency", 256, "readers", 256),
        ("io_depth", 1, "reads_in_flight", 1),
        ("io_depth", 1024, "reads_in_flight", 1024),
        ("max_free_mem_usage", 0.25, "max_free_mem_usage", 0.25),
        ("max_free_mem_usage", 1, "max_free_mem_usage", 1.0),
    ],
)
def test_an_argument_beats_its_variable(
    argument: str, value: float, field: str, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"INSTANTTENSOR_{argument.upper()}"
    assert getattr(resolve(**{argument: value}), field) == expected
    monkeypatch.setenv(variable, str(value))
    assert getattr(resolve(), field) == expected
    monkeypatch.setenv(variable, "wrong, and not looked at")
    assert getattr(resolve(**{argument: value}), field) == expected


def test_a_number_may_be_of_numpy() -> None:
    assert resolve(buffer_size=np.int64(7)).buffer_bytes == 7


@pytest.mark.parametrize(
    ("argument", "value", "words"),
    [
        ("buffer_size", 0, "0: expected at least 1"),
        ("buffer_size", -1, "-1: expected at least 1"),
        ("buffer_size", 1 << 63, f"{1 << 63}: expected less than 2**63"),
        ("chunk_size", 0, "0: expected 1 to 1073741824"),
        ("chunk_size", (1 << 30) + 1, "1073741825: expected 1 to 1073741824"),
        ("concurrency", -1, "-1: expected at least 0"),
        ("io_depth", 0, "0: expected 1 to 1024"),
        ("io_depth", 1025, "1025: expected 1 to 1024"),
        ("max_free_mem_usage", 0.0, "0.0: expected more than 0 and at most 1"),
        ("max_free_mem_usage", 1.5, "1.5: expected more than 0 and at most 1"),
        ("max_free_mem_usage", float("nan"), "nan: expected more than 0 and at most 1"),
        ("max_free_mem_usage", float("-inf"), "-inf: expected more than 0 and at most 1"),
    ],
)
def test_out_of_range(
    argument: str, value: float, words: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {argument: value}
    with pytest.raises(ValueError) as refused:
        safe_open(path, "pt", **options)
    assert str(refused.value) == f"{argument}={words}"
    monkeypatch.setenv(f"INSTANTTENSOR_{argument.upper()}", str(value))
    with pytest.raises(ValueError) as refused:
        safe_open(path, "pt")
    assert str(refused.value) == f"INSTANTTENSOR_{argument.upper()}={words}"


@pytest.mark.parametrize(
    ("argument", "value", "most"), [("chunk_size", 1 << 30, 64 << 20), ("concurrency", 100_000, 256)]
)
def test_more_than_is_of_use_is_taken_with_a_warning_as_instanttensor_takes_it(
    argument: str, value: int, most: int, path: Path
) -> None:
    options: dict[str, Any] = {argument: value}
    with pytest.warns(RuntimeWarning) as warned:
        with safe_open(path, "pt", **options) as f:
            assert len(list(f.tensors())) == len(f)
    (warning,) = warned
    assert str(warning.message) == f"{argument}={value}: {most} is the most here, and is taken"
    assert warning.filename == __file__


@pytest.mark.parametrize("argument", ["buffer_size", "chunk_size", "concurrency", "io_depth"])
def test_a_wrong_type(argument: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (1.0, "1", True, [1]):
        with pytest.raises(TypeError) as refused:
            resolve(**{argument: value})
        assert str(refused.value) == f"{argument}: expected an int, got {type(value).__name__}"
    for text in ("", "many", "1.5", "1G"):
        monkeypatch.setenv(f"INSTANTTENSOR_{argument.upper()}", text)
        with pytest.raises(ValueError) as unreadable:
            resolve()
        assert str(unreadable.value) == f"INSTANTTENSOR_{argument.upper()}={text!r}: expected a whole number"


def test_a_wrong_type_for_a_fraction(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("0.5", True, None.__class__):
        with pytest.raises(TypeError) as refused:
            resolve(max_free_mem_usage=value)
        assert str(refused.value) == f"max_free_mem_usage: expected a float, got {type(value).__name__}"
    monkeypatch.setenv("INSTANTTENSOR_MAX_FREE_MEM_USAGE", "half")
    with pytest.raises(ValueError) as unreadable:
        resolve()
    assert str(unreadable.value) == "INSTANTTENSOR_MAX_FREE_MEM_USAGE='half': expected a number"


@pytest.mark.parametrize("backend", list(Backend))
def test_every_backend_is_accepted_in_every_form(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    for form in (backend, backend.name, [backend], (backend.name,), f" {backend.name} "):
        assert resolve(backend=form).backends == (backend.name,)
    monkeypatch.setenv("INSTANTTENSOR_BACKEND", f" {backend.name} ,")
    assert resolve().backends == (backend.name,)


def test_safetensors_own_names_are_known() -> None:
    assert resolve(backend=["mmap", "pread"]).backends == ("MMAP", "AIO_BUFFERED")


@pytest.mark.parametrize("policy", [BackendPolicy.BUFFERED, "BUFFERED", [BackendPolicy.BUFFERED]])
def test_a_policy_stands_for_its_backends(policy: Any) -> None:
    assert resolve(backend=policy).backends == ("URING_BUFFERED", "MMAP", "AIO_BUFFERED")


def test_candidates_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = ["CUFILE", BackendPolicy.BUFFERED, Backend.AIO]
    assert resolve(backend=mixed).backends == ("CUFILE", "URING_BUFFERED", "MMAP", "AIO_BUFFERED", "AIO")
    monkeypatch.setenv("INSTANTTENSOR_BACKEND", "CUFILE, BUFFERED,AIO")
    assert resolve().backends == ("CUFILE", "URING_BUFFERED", "MMAP", "AIO_BUFFERED", "AIO")
    assert resolve(backend="MMAP").backends == ("MMAP",)


class Other(Enum):
    AIO = "AIO"


@pytest.mark.parametrize(
    ("backend", "kind", "words"),
    [
        ("aio", ValueError, f"backend='aio': expected one of {BACKENDS}"),
        (["MMAP", "NFS"], ValueError, f"backend='NFS': expected one of {BACKENDS}"),
        ([], ValueError, f"backend is empty: expected at least one of {BACKENDS}, or None"),
        (5, TypeError, "backend: expected a Backend, a BackendPolicy or several of them, got int"),
        ([5], TypeError, "backend: expected a Backend or a BackendPolicy, got int"),
        (Other.AIO, TypeError, "backend: expected a Backend or a BackendPolicy, got Other"),
    ],
)
def test_no_backend_of_ours(backend: Any, kind: type[Exception], words: str, path: Path) -> None:
    with pytest.raises(kind) as refused:
        safe_open(path, "pt", backend=backend)
    assert str(refused.value) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("NFS", f"INSTANTTENSOR_BACKEND='NFS': expected one of {BACKENDS}"),
        (" , ", f"INSTANTTENSOR_BACKEND is empty: expected at least one of {BACKENDS}, or None"),
    ],
)
def test_no_backend_of_ours_in_the_variable(text: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSTANTTENSOR_BACKEND", text)
    with pytest.raises(ValueError) as refused:
        resolve()
    assert str(refused.value) == words


@pytest.mark.parametrize("backend", READING_BACKENDS)
def test_a_backend_reads_as_it_says(backend: str, tmp_path: Path) -> None:
    tensors = {f"{i}": stored("U8", [1 + 300_007 * i], i) for i in range(9)}
    paths = [write(tmp_path / f"{part}.safetensors", dict(list(tensors.items())[part::3])) for part in range(3)]
    # Where the file system takes no direct reads, as in memory, that is the one name that cannot serve.
    with safe_open(paths, "np", backend=[backend, "AIO_BUFFERED"], chunk_size=1 << 18) as f:
        assert {name: bytes_of(tensor) for name, tensor in f.tensors()} == {
            name: some_bytes(1 + 300_007 * i, i) for i, name in enumerate(tensors)
        }
        files = f.stats()["files"]
    call = {"AIO": "pread", "URING": "io_uring", "MMAP": "mmap"}[backend.removesuffix("_BUFFERED")]
    way = "past" if backend in {"AIO", "URING"} else "through"
    for file in files:
        if file["backend"] == backend:
            assert file["mode"] == ("direct" if way == "past" else "buffered")
            assert file["reason"] == f"{backend} was asked for: {call} {way} the page cache"
        else:
            assert (way, file["backend"]) == ("past", "AIO_BUFFERED")
            assert file["passed_over"].startswith(f"{backend}: ")


def test_buffered_is_io_uring_where_there_is_one_else_a_mapping(path: Path) -> None:
    with safe_open(path, "np", backend="BUFFERED") as f:
        (file,) = f.stats()["files"]
    assert file["backend"] == ("URING_BUFFERED" if io_uring() else "MMAP")
    assert file["passed_over"].startswith("" if io_uring() else "URING_BUFFERED: ")


WITHOUT_RINGS_AND_COPIES = """
import ctypes, errno, os, struct, sys
from instanttensor import safe_open
copies = {"x86_64": 310, "aarch64": 270}[os.uname().machine]
filters = [(0x20, 0, 0)]  # Takes io_uring_setup and process_vm_readv away, as seccomp profiles of containers do.
for number in (425, copies):
    filters += [(0x15, 1, number), (0x06, 0, 0x00050000 | errno.EPERM)]
filters.append((0x06, 0, 0x7FFF0000))
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", op, 0, skip, value) for op, skip, value in filters))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(filters), ctypes.addressof(code)))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0
with safe_open(sys.argv[1], "np", backend="BUFFERED") as f:
    assert len(list(f.tensors())) == 2
    (file,) = f.stats()["files"]
print(file["mode"], file["backend"], file["passed_over"].split("; ")[-1], sep="|")
"""


@pytest.mark.skipif(os.uname().machine not in ("x86_64", "aarch64"), reason="system calls have other numbers here")
def test_buffered_is_pread_where_neither_io_uring_nor_a_mapping_can_be_read(path: Path) -> None:
    assert run(WITHOUT_RINGS_AND_COPIES, str(path)) == (
        "buffered|AIO_BUFFERED|MMAP: process_vm_readv: Operation not permitted (errno 1)"
    )


NO_CUFILE = "CUFILE: it reads to GPUs, and this load goes to the host"


def test_a_backend_that_cannot_serve_is_passed_over_and_stats_says_why(path: Path) -> None:
    with safe_open(path, "pt", backend=["CUFILE", "MMAP", "AIO"]) as f:
        assert len(dict(f.tensors())) == 2
        (file,) = f.stats()["files"]
    assert file == {
        "file": str(path),
        "mode": "buffered",
        "backend": "MMAP",
        "reason": "MMAP was asked for: mmap through the page cache",
        "passed_over": NO_CUFILE,
    }


@pytest.mark.usefixtures("nothing_stays")
def test_no_backend_left_is_an_error_at_opening_that_lists_the_reasons(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = f"{path}: none of the backends asked for can read it: {NO_CUFILE}; {NO_CUFILE}"
    with pytest.raises(RuntimeError) as refused:
        safe_open(path, "pt", backend=["CUFILE", Backend.CUFILE])
    assert str(refused.value) == words
    monkeypatch.setenv("INSTANTTENSOR_BACKEND", "CUFILE,CUFILE")
    with pytest.raises(RuntimeError) as refused:
        safe_open(path, "pt", load_now=False)
    assert str(refused.value) == words


def test_the_cap_on_slabs_is_an_attribute(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with safe_open(path, "pt", buffer_size=12_345) as f:
        assert f.buffer_size == 12_345
        list(f.tensors())
        assert f.stats()["buffer_bytes"] == 12_345
    monkeypatch.setenv("INSTANTTENSOR_BUFFER_SIZE", "54321")
    with safe_open(path, "pt") as f:
        assert f.buffer_size == 54_321
    monkeypatch.delenv("INSTANTTENSOR_BUFFER_SIZE")
    with safe_open(path, "pt", max_free_mem_usage=0.5) as f:
        assert 0 < f.buffer_size <= 1 << 30


def test_on_tmpfs_direct_reads_are_passed_over(tmp_path: Path) -> None:
    shm = Path("/dev/shm")
    if not shm.is_dir():
        pytest.skip("this machine has no /dev/shm")
    path = write(shm / f"instanttensor-{tmp_path.name}-{id(tmp_path)}.safetensors", {"a": stored("F32", [10])})
    try:
        with safe_open(path, "pt", backend=["URING", "BUFFERED"]) as f:
            (file,) = f.stats()["files"]
            # Linux 6.6 taught tmpfs to take the flag.
            assert (file["mode"], file["backend"]) in {("buffered", "URING_BUFFERED"), ("direct", "URING")}
            assert file["passed_over"].startswith("URING: ") == (file["mode"] == "buffered")
            assert f.get_tensor("a").shape == (10,)
    finally:
        path.unlink()


def test_without_a_wish_the_reason_is_told(path: Path) -> None:
    with safe_open(path, "pt") as f:
        (file,) = f.stats()["files"]
    assert (file["backend"], file["passed_over"]) == (None, "")
    assert file["mode"] in ("direct", "buffered", "mixed")
    assert file["reason"]


def test_options_come_from_the_environment_of_a_process(path: Path) -> None:
    out = run(
        """
        import sys, warnings
        from instanttensor import safe_open
        with safe_open(sys.argv[1], "np") as f, warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            assert len(dict(f.tensors())) == 2
            print(f.stats()["buffer_bytes"], f.stats()["files"][0]["backend"], told[0].message)
        with safe_open(sys.argv[1], "np", buffer_size=5000, backend="AIO_BUFFERED") as f:
            assert len(dict(f.tensors())) == 2
            print(f.stats()["buffer_bytes"], f.stats()["files"][0]["backend"])
        """,
        str(path),
        INSTANTTENSOR_BUFFER_SIZE="64",
        INSTANTTENSOR_BACKEND="CUFILE,MMAP",
        INSTANTTENSOR_CHUNK_SIZE="4096",
        INSTANTTENSOR_CONCURRENCY="2",
        INSTANTTENSOR_IO_DEPTH="3",
        INSTANTTENSOR_MAX_FREE_MEM_USAGE="0.1",
    )
    assert out.splitlines() == [
        "64 MMAP larger than buffer_size (64 bytes), so each gets storage of its own: 'a' (400 bytes), 'b' (400 bytes)",
        "5000 AIO_BUFFERED",
    ]


def test_a_large_tensor_is_one_warning_that_names_it(tmp_path: Path) -> None:
    tensors = {f"{i}\n": stored("U8", [100 + i]) for i in range(8)} | {"small": stored("U8", [10])}
    path = write(tmp_path / "a.safetensors", tensors)
    with safe_open(path, "pt", buffer_size=106) as f:
        with pytest.warns(RuntimeWarning) as told:
            assert [t.untyped_storage().nbytes() for _, t in f.tensors()] == [*range(100, 108), 10]
    assert [str(warning.message) for warning in told] == [
        "larger than buffer_size (106 bytes), so each gets storage of its own: '7\\n' (107 bytes)"
    ]
    with safe_open(path, "pt", buffer_size=1) as f:
        with pytest.warns(RuntimeWarning, match=r"'4\\n' \(104 bytes\), 4 more$") as told:
            list(f.tensors())
        assert len(told) == 1
        assert f.stats()["peak_buffer_bytes"] <= 112
