"""The scripts that find the JDK and say what is missing, on machines that are made up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SUPPORT = Path(__file__).resolve().parents[2] / "build-support"


def run(script: str, *arguments: Path, **variables: object) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": os.devnull} | {k: str(v) for k, v in variables.items()}
    command = [SUPPORT / script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def make_jdk(folder: Path, version: str, without: str | None = None) -> Path:
    for name in ("bin/javac", "include/jni.h", "release"):
        if name != without:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(f'IMPLEMENTOR="made up"\nJAVA_VERSION="{version}"\n')
            (folder / name).chmod(0o755)
    return folder


def test_java_home_wins_where_it_is_a_jdk_25(tmp_path: Path) -> None:
    mine = make_jdk(tmp_path / "mine", "25.0.1")
    other = make_jdk(tmp_path / "other", "25.0.2")
    assert run("find-jdk", other, JAVA_HOME=mine).stdout == f"{mine}\n"


def test_an_older_java_home_is_passed_over(tmp_path: Path) -> None:
    old = make_jdk(tmp_path / "old", "17.0.9")
    found = make_jdk(tmp_path / "found", "25")
    assert run("find-jdk", found, JAVA_HOME=old).stdout == f"{found}\n"


@pytest.mark.parametrize("without", ["bin/javac", "include/jni.h", "release"])
def test_a_runtime_environment_is_no_jdk(tmp_path: Path, without: str) -> None:
    runtime = make_jdk(tmp_path / "runtime", "25.0.2", without)
    assert run("find-jdk", runtime).returncode == 1


def test_a_newer_jdk_serves_only_where_there_is_no_25(tmp_path: Path) -> None:
    newer = make_jdk(tmp_path / "a", "26")
    exact = make_jdk(tmp_path / "b", "25.0.2")
    assert run("find-jdk", newer, exact).stdout == f"{exact}\n"
    assert run("find-jdk", newer).stdout == f"{newer}\n"


def test_a_jdk_under_the_home_folder_is_found(tmp_path: Path) -> None:
    make_jdk(tmp_path / ".jdks/here", "25.0.2")
    found = run("find-jdk", HOME=tmp_path).stdout.strip()
    assert '"25' in (Path(found) / "release").read_text()


def test_a_missing_jdk_is_said_in_a_sentence(tmp_path: Path) -> None:
    old = make_jdk(tmp_path / "old", "17.0.9")
    done = run("find-jdk", tmp_path, JAVA_HOME=old)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"JDK 25 is missing: neither JAVA_HOME ({old}) nor the usual folders hold one; install it with your system's "
        "package manager (openjdk-25-jdk, temurin-25-jdk) or SDKMAN, or unpack one and set JAVA_HOME to its folder.\n"
    )


def test_all_that_is_missing_is_said_at_once(tmp_path: Path) -> None:
    done = run("doctor", tmp_path, PYTHON="no-python", CC="no-cc", MVN="no-mvn", MAKE="no-make")
    assert done.returncode == 1
    sentences = done.stderr.splitlines()
    assert [sentence.split(":")[0] for sentence in sentences] == [
        "JDK 25 is missing",
        "Maven 3.8 or newer is missing",
        "Python 3.10 to 3.13 is missing",
        "A C compiler is missing",
        "make is missing",
    ]


def test_missing_headers_are_said_with_their_path(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncase "$2" in *sysconfig*) echo {tmp_path};; *) exec {sys.executable} "$@";; esac\n')
    python.chmod(0o755)
    said = run("doctor", PYTHON=python).stderr
    assert (
        f"Python's headers are missing: there is no {tmp_path}/Python.h; "
        "install them (package python3-dev or python3-devel).\n" in said
    )


def test_another_python_is_refused_with_its_version(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\n[ $1 = --version ] && echo Python 3.9.18\nexit 1\n")
    python.chmod(0o755)
    said = run("doctor", PYTHON=python).stderr
    assert f"Python 3.10 to 3.13 is missing: {python} is Python 3.9.18; run make with PYTHON=" in said


def test_this_machine_lacks_nothing() -> None:
    environment = {k: os.environ[k] for k in ("JAVA_HOME", "HOME") if k in os.environ}
    done = run("doctor", PYTHON=sys.executable, **environment)
    assert (done.returncode, done.stderr) == (0, "")
