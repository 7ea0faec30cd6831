"""What `filename` can be, and the order of what comes out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from instanttensor import safe_open
from samples import bytes_of, run, stored, write

FORMS: dict[str, Callable[[Path], Any]] = {
    "list of str": lambda folder: [str(folder / "b.safetensors"), str(folder / "a.safetensors")],
    "list of Path": lambda folder: [folder / "b.safetensors", folder / "a.safetensors"],
    "tuple": lambda folder: (folder / "a.safetensors", str(folder / "b.safetensors")),
    "generator": lambda folder: (folder / name for name in ("b.safetensors", "a.safetensors")),
    "set": lambda folder: {folder / "a.safetensors", folder / "b.safetensors"},
    "dict": lambda folder: {str(folder / "b.safetensors"): 1, str(folder / "a.safetensors"): 2},
    "folder": lambda folder: folder,
    "folder as str": lambda folder: f"{folder}/",
    "list of a folder": lambda folder: [folder],
    "index": lambda folder: folder / "other" / "x.safetensors.index.json",
    "twice the same": lambda folder: [folder / "a.safetensors", folder, folder / "other" / ".." / "b.safetensors"],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in "ba":
        tensors = {f"{name}2": ("U8", [1], b"2"), f"{name}1": ("U8", [1], b"1")}
        write(tmp_path / f"{name}.safetensors", tensors, {name: name})
    (tmp_path / "other").mkdir()
    for name in "ab":
        (tmp_path / "other" / f"{name}.safetensors").symlink_to(tmp_path / f"{name}.safetensors")
    weight_map = {f"{name}{number}": f"{name}.safetensors" for name in "ba" for number in (1, 2)}
    (tmp_path / "other" / "x.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return tmp_path


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_tensors_in_the_order_of_files_and_offsets(form: str, folder: Path) -> None:
    with safe_open(FORMS[form](folder), "pt") as f:
        assert f.keys() == ["a2", "a1", "b2", "b1"]
        found = [(name, bytes_of(t)) for name, t in f.tensors()]
        assert found == [("a2", b"2"), ("a1", b"1"), ("b2", b"2"), ("b1", b"1")]
        assert f.metadata() == {"a": "a", "b": "b"}
        assert [os.path.basename(file["file"]) for file in f.stats()["files"]] == ["a.safetensors", "b.safetensors"]


def test_the_callers_list_is_not_changed(folder: Path) -> None:
    given = [folder / "b.safetensors", folder / "a.safetensors"]
    kept = list(given)
    safe_open(given, "pt").close()
    assert given == kept


def test_one_file_by_str_and_by_pathlike(folder: Path) -> None:
    class Like:
        def __fspath__(self) -> str:
            return str(folder / "a.safetensors")

    for form in (Like(), str(folder / "a.safetensors"), folder / "a.safetensors"):
        with safe_open(form, "pt") as f:
            assert f.keys() == ["a2", "a1"]


def test_a_relative_path_is_pythons_and_not_javas(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with safe_open("a.safetensors", "pt") as f:
        assert f.keys() == ["a2", "a1"]
        assert f.stats()["files"][0]["file"] == f"{folder}/a.safetensors"


def test_what_lies_above_a_folder_that_is_a_link_is_what_the_system_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "store" / "v1").mkdir(parents=True)
    (tmp_path / "current").symlink_to("store/v1")
    write(tmp_path / "m.safetensors", {"wrong": stored("U8", [1])})
    write(tmp_path / "store" / "m.safetensors", {"right": stored("U8", [1])})
    monkeypatch.chdir(tmp_path)
    for path in ("current/../m.safetensors", f"{tmp_path}/current/../m.safetensors", "current/./.."):
        with safe_open(path, "pt") as f:
            assert f.keys() == ["right"]


def test_a_file_is_no_folder(folder: Path) -> None:
    with pytest.raises(NotADirectoryError):
        safe_open(f"{folder}/a.safetensors/", "pt")
    with safe_open(f"{folder}/", "pt") as f:
        assert f.keys()


@pytest.mark.parametrize("name", ["é😀 \n'\".safetensors", "no ending", "%20.safetensors", "~.safetensors", "*"])
def test_any_name_of_a_file(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, {"a": stored("U8", [3])})
    with safe_open(path, "pt") as f:
        assert f.keys() == ["a"]
        assert f.stats()["files"][0]["file"] == str(path)


@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "1"}, {"LC_ALL": "C.UTF-8"}])
def test_any_name_of_a_file_in_any_locale(locale: dict[str, str], tmp_path: Path) -> None:
    write(tmp_path / "é😀.safetensors", {"ü": stored("U8", [3])})
    script = """
        import sys
        from instanttensor import safe_open
        for named in (sys.argv[1], sys.argv[1] + "/\\u00e9\\U0001f600.safetensors"):
            with safe_open(named, "np") as f:
                print(ascii([name for name, _ in f.tensors()]), ascii(f.stats()["files"][0]["file"]))
    """
    line = f"{ascii(['ü'])} {ascii(str(tmp_path / 'é😀.safetensors'))}"
    assert run(script, str(tmp_path), **locale).splitlines() == [line, line]


def test_files_are_sorted_by_name_before_their_folder(tmp_path: Path) -> None:
    for number, place in enumerate(("z/1", "a/2", "m/10")):
        path = tmp_path / f"{place}.safetensors"
        path.parent.mkdir()
        write(path, {str(number): stored("U8", [1])})
    with safe_open(tmp_path.glob("*/*"), "pt") as f:
        assert f.keys() == ["0", "2", "1"]


def test_empty_tensors_that_share_an_offset_come_by_name(tmp_path: Path) -> None:
    names = ["q", "é", "b", "\U0001f600", "\uff5e", "a"]
    path = write(tmp_path / "a.safetensors", {name: stored("F32", [0]) for name in names})
    with safe_open(path, "pt") as f:
        assert f.keys() == sorted(names)


def test_the_order_is_the_same_in_every_process(tmp_path: Path) -> None:
    for number in range(3):
        tensors = {f"{number}.{i * 7919 % 100}": stored("U8", [i % 3]) for i in range(100)}
        write(tmp_path / f"{number}.safetensors", tensors)
    script = """
        import sys
        from instanttensor import safe_open
        with safe_open(set(sys.argv[1:]), "np") as f:
            assert [name for name, _ in f.tensors()] == f.keys()
            print(f.keys())
    """
    paths = [str(path) for path in sorted(tmp_path.iterdir())]
    assert run(script, *paths, PYTHONHASHSEED="1") == run(script, *reversed(paths), PYTHONHASHSEED="2")


def test_metadata_of_later_files_lies_over_that_of_earlier_ones(tmp_path: Path) -> None:
    write(tmp_path / "a.safetensors", {}, {"k": "a", "é\0": "😀\0"})
    write(tmp_path / "b.safetensors", {})
    write(tmp_path / "c.safetensors", {}, {"k": "c"})
    with safe_open(tmp_path, "pt") as f:
        assert f.metadata() == {"k": "c", "é\0": "😀\0"}
    with safe_open(tmp_path / "b.safetensors", "pt") as f:
        assert f.metadata() is None
        assert (f.keys(), list(f.tensors()), f.get_tensors(), f.total_tensor_size) == ([], [], {}, 0)
