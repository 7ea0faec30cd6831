"""Bad paths, files and indexes: which error, in which words, and that nothing stays behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from instanttensor import safe_open
from safetensors import SafetensorError
from samples import Stored, bytes_of, raw, run, stored, write

pytestmark = pytest.mark.usefixtures("nothing_stays")

ONE: dict[str, Stored] = {"a": stored("F32", [2])}


def test_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "none.safetensors"
    with pytest.raises(FileNotFoundError) as refused:
        safe_open(path, "pt")
    assert str(refused.value) == f"[Errno 2] no such file or folder: '{path}'"
    assert (refused.value.errno, refused.value.filename) == (2, str(path))


def test_a_file_missing_among_others(tmp_path: Path) -> None:
    present = write(tmp_path / "a.safetensors", ONE)
    with pytest.raises(FileNotFoundError) as refused:
        safe_open([present, tmp_path / "b.safetensors"], "pt")
    assert str(refused.value) == f"[Errno 2] no such file or folder: '{tmp_path}/b.safetensors'"


def test_an_empty_path_is_no_folder() -> None:
    with pytest.raises(FileNotFoundError) as refused:
        safe_open("", "pt")
    assert str(refused.value) == "[Errno 2] expected a path, got an empty one: ''"


def test_a_folder_without_safetensors(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / ".hidden.safetensors").write_text("")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(FileNotFoundError) as refused:
        safe_open(tmp_path, "pt")
    assert str(refused.value) == f"[Errno 2] the folder holds no safetensors file: '{tmp_path}'"


def test_an_unreadable_file(tmp_path: Path) -> None:
    """As somebody who does not own it: permissions say nothing to root."""
    path = write(tmp_path / "a.safetensors", ONE)
    other = write(tmp_path / "b.safetensors", ONE)
    path.chmod(0)
    script = """
        import os, sys
        from instanttensor import safe_open
        path, other = sys.argv[1:]
        safe_open(other, "np").close()  # while Java's and numpy's own files can be read
        if os.getuid() == 0:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
        try:
            safe_open(path, "np")
        except OSError as error:
            print(type(error).__name__, error)
    """
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder.stat().st_mode & 0o700 == 0o700 and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    assert run(script, str(path), str(other)) == f"PermissionError [Errno 13] no permission to read it: '{path}'"


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.safetensors"
    os.mkfifo(fifo)
    for path in (fifo, Path("/dev/null")):
        with pytest.raises(OSError) as refused:
            safe_open(path, "pt")
        assert str(refused.value) == f"[Errno 22] expected a regular file, found something else: '{path}'"


def test_a_name_in_two_files_is_one_warning_and_both_tensors(tmp_path: Path) -> None:
    first = write(tmp_path / "a.safetensors", {"x": ("U8", [1], b"1"), "twice \0é": ("U8", [1], b"2")})
    second = write(tmp_path / "b.safetensors", {"twice \0é": ("U8", [1], b"3"), "y": ("U8", [1], b"4")})
    with pytest.warns(UserWarning) as told:
        f = safe_open([second, first], "pt")
    assert [str(warning.message) for warning in told] == [
        f"tensor 'twice \\x00é' is in {first} and {second}: tensors() yields each of them, get_tensor() refuses"
    ]
    assert told[0].filename == __file__
    with f:
        assert [(name, bytes_of(t)) for name, t in f.tensors()] == [
            ("x", b"1"), ("twice \0é", b"2"), ("twice \0é", b"3"), ("y", b"4"),
        ]  # fmt: skip
        for refuse in (f.get_tensor, f.get_slice, f.get_tensor_metadata, lambda name: f.get_tensors([name])):
            with pytest.raises(SafetensorError) as refused:
                refuse("twice \0é")
            assert str(refused.value) == (
                "tensor twice \0é is in more than one file of this checkpoint: which one is not known"
            )
        assert bytes_of(f.get_tensor("y")) == b"4"


def test_many_names_in_two_files_are_one_warning(tmp_path: Path) -> None:
    tensors = {name: stored("U8", [1]) for name in "abc"}
    paths = [write(tmp_path / f"{number}.safetensors", tensors) for number in range(3)]
    with pytest.warns(UserWarning) as told:
        safe_open(paths, "pt").close()
    homes = " and ".join(map(str, paths))
    assert [str(warning.message) for warning in told] == [
        f"tensor 'a' is in {homes} (likewise: 2 more): tensors() yields each of them, get_tensor() refuses"
    ]


def test_a_name_that_the_filter_leaves_out_is_no_warning(tmp_path: Path) -> None:
    for number in range(2):
        write(tmp_path / f"{number}.safetensors", {"twice": stored("U8", [1]), str(number): stored("U8", [1])})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with safe_open(tmp_path, "pt", tensor_filter=["0", "1"]) as f:
            assert f.keys() == ["0", "1"]


def test_a_warning_that_is_an_error_leaves_nothing_open(tmp_path: Path) -> None:
    for number in range(2):
        write(tmp_path / f"{number}.safetensors", ONE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning) as kept:
            safe_open(tmp_path, "pt")
    assert kept.traceback  # which holds the frame, and whatever was in it


def test_an_index_says_which_file_a_name_is_taken_from(tmp_path: Path) -> None:
    write(tmp_path / "a.safetensors", {"twice": ("U8", [1], b"1"), "a": ("U8", [1], b"2")})
    write(tmp_path / "b.safetensors", {"twice": ("U8", [1], b"3")})
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"twice": "b.safetensors", "a": "a.safetensors"}}))
    for named in (tmp_path, index):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with safe_open(named, "pt") as f:
                assert [(name, bytes_of(t)) for name, t in f.tensors()] == [("a", b"2"), ("twice", b"3")]
                assert bytes_of(f.get_tensor("twice")) == b"3"


def test_an_index_that_is_wrong(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", ONE)
    index = tmp_path / "model.safetensors.index.json"

    index.write_text(json.dumps({"weight_map": {"b": "a.safetensors"}}))
    with pytest.raises(SafetensorError) as misplaced:
        safe_open(index, "pt")
    assert str(misplaced.value) == f"{path}: expected tensor 'b' here, as the index says; the file does not hold it"

    index.write_text(json.dumps({"weight_map": {"a": "gone.safetensors"}}))
    with pytest.raises(FileNotFoundError) as missing:
        safe_open(tmp_path, "pt")
    assert str(missing.value) == (
        f"[Errno 2] no such file, though {index} names it for tensor a: '{tmp_path}/gone.safetensors'"
    )

    index.write_text('{"weight_map": {')
    with pytest.raises(OSError) as cut:
        safe_open(tmp_path, "pt")
    assert str(cut.value) == f"{index}: expected an index in JSON, found the end of the file within it"

    index.write_text("{]")
    with pytest.raises(OSError, match=f"^{index}: expected an index in JSON at line 1, column 2: "):
        safe_open(tmp_path, "pt")

    index.write_text(json.dumps({"weight_map": {"a": "../a.safetensors"}}))
    with pytest.raises(OSError) as outside:
        safe_open(tmp_path, "pt")
    assert str(outside.value) == (
        f'{index}: tensor a: expected a file in the index\'s folder, found "../a.safetensors"'
    )


READS: dict[str, Callable[[safe_open], Any]] = {
    "tensors": lambda f: list(f.tensors()),
    "get_tensor": lambda f: f.get_tensor("a"),
    "get_tensors": lambda f: f.get_tensors(),
    "get_slice": lambda f: f.get_slice("a")[1:],
}


@pytest.mark.parametrize("how", READS)
@pytest.mark.parametrize("change", [-100, -1, 1, 5000])
def test_a_file_that_changed_its_size_since_it_was_opened(how: str, change: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"a": stored("F32", [1000])})
    size = path.stat().st_size
    wanted = 3996 if how == "get_slice" else 4000
    with safe_open(path, "pt") as f:
        os.truncate(path, size + change)
        for _ in range(2):
            with pytest.raises(OSError) as refused:
                READS[how](f)
            assert str(refused.value) == (
                f"{path}: expected to read {wanted:,} bytes at {size - wanted:,}, read none: "
                f"the file has {size + change:,} bytes, and had {size:,} when it was opened"
            )
        os.truncate(path, size)
        READS[how](f)


@pytest.mark.parametrize("backend", ["MMAP", None])
def test_a_file_that_is_cut_while_it_is_read(backend: str | None, tmp_path: Path) -> None:
    tensors = {f"{i:03}": stored("U8", [65536], i) for i in range(100)}
    path = write(tmp_path / "a.safetensors", tensors)
    size = path.stat().st_size
    seen = []
    with safe_open(path, "pt", buffer_size=1 << 18, chunk_size=1 << 16, concurrency=1, backend=backend) as f:
        iterator = f.tensors()
        seen.append(next(iterator)[0])
        os.truncate(path, size - 30 * 65536 - 100)
        with pytest.raises(OSError) as refused:
            seen.extend(name for name, _ in iterator)
    assert str(refused.value).startswith(f"{path}: read ")
    refused.match(
        r".*: read [\d,]+ of [\d,]+ bytes at [\d,]+: the file (ends there|has [\d,]+ bytes) "
        r"\(it had 6,5[\d,]+ bytes when it was opened\)$"
    )
    # What came before is whole, and in order.
    assert seen == list(tensors)[: len(seen)]
    assert 0 < len(seen) <= 70


def test_an_error_ends_a_process_in_the_ordinary_way(tmp_path: Path) -> None:
    path = raw(tmp_path / "a.safetensors", "{")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent("""
            import sys
            from instanttensor import safe_open
            safe_open(sys.argv[1], "np")
        """), str(path)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    words = "SafetensorError: Error while deserializing header: InvalidHeaderDeserialization: "
    assert words in done.stderr.strip().splitlines()[-1]
    # Java's exception is none of the user's business.
    assert "io.instanttensor" not in done.stderr
    assert "During handling" not in done.stderr
