"""``python -m instanttensor doctor`` of checkpoints that no load gets through."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from doctor_runs import ends
from instanttensor import safe_open
from samples import stored, write


def failure(lines: list[str]) -> str:
    """The one line that says why a load does not work, without its level."""
    *before, last = lines
    assert last == "fail Not every PATH can be loaded to cpu; the line that begins with fail says why."
    (line,) = [line for line in before if line.startswith("fail ")]
    return line.removeprefix("fail ")


def test_a_file_that_was_cut_short_is_told_in_the_engines_words(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 24)
    with pytest.raises(Exception, match="MetadataIncompleteBuffer") as error:
        safe_open(path, "pt")
    assert failure(ends(1, "--device", "cpu", path)) == f"{error.value}."


def test_a_folder_without_checkpoints_is_told(tmp_path: Path) -> None:
    assert failure(ends(1, "--device", "cpu", tmp_path)) == f"{tmp_path}: the folder holds no safetensors file."


def test_an_element_type_that_the_framework_lacks_ends_a_load(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"odd": stored("F6_E2M3", [4]), "good": stored("U8", [4])})
    lines = ends(1, "--device", "cpu", path)
    with safe_open(path, "np") as f, pytest.raises(ValueError, match="F6_E2M3") as error:
        f.get_tensor_metadata("odd")
    assert failure(lines) == f"{path}: {error.value}."
    assert f"ok   {path}: loaded its tensor 'good' (4 bytes) to cpu in " in "\n".join(lines)


def test_a_backend_that_cannot_serve_ends_a_load(path: Path) -> None:
    told = failure(ends(1, "--device", "cpu", path, INSTANTTENSOR_BACKEND="CUFILE"))
    assert told == (
        f"{path}: none of the backends asked for can read it: "
        "CUFILE: it reads to GPUs, and this load goes to the host."
    )


def test_an_option_of_the_environment_that_is_none_is_told(path: Path) -> None:
    told = failure(ends(1, "--device", "cpu", path, INSTANTTENSOR_CHUNK_SIZE="lots"))
    assert told == f"{path}: INSTANTTENSOR_CHUNK_SIZE='lots': expected a whole number."
