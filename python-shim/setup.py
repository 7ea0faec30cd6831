"""Puts the Java engine into the wheel; everything else is said in pyproject.toml.

The engine is the shaded jar, JCuda's driver library and, where one was made, an AOT cache. Maven builds the first two
from the folder above unless they are there and newer than every Java source.
"""

import os
import shutil
import subprocess
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel
from setuptools.command.sdist import sdist
from setuptools.errors import SetupError

ROOT = Path(__file__).resolve().parent.parent
JAR = ROOT / "java-core/target/instanttensor.jar"
JCUDA_DRIVER = ROOT / "java-core/target/native/libJCudaDriver-12.6.0-linux-x86_64.so"
AOT_FOLDER_VARIABLE = "INSTANTTENSOR_BUILD_AOT_FOLDER"

# JCuda's driver library, all that is compiled in the wheel, asks for glibc 2.17 but for GCC 5's C++ library, which the
# platform of glibc 2.17 does not have. 2.28 is what torch's wheels ask for.
PLATFORM = "manylinux_2_28_x86_64"


def engine_sources() -> list[Path]:
    return [ROOT / "pom.xml", ROOT / "java-core/pom.xml", *(ROOT / "java-core/src/main").rglob("*")]


def engine_is_current() -> bool:
    if not (JAR.is_file() and JCUDA_DRIVER.is_file()):
        return False
    return JAR.stat().st_mtime >= max(path.stat().st_mtime for path in engine_sources())


def build_engine() -> None:
    maven = ROOT / "build-support/maven"
    if not maven.is_file():
        raise SetupError(
            "instanttensor's Java engine is built from the folder above python-shim, and this copy of python-shim has "
            "none: install from a full checkout, or from a wheel that `make wheel` built"
        )
    done = subprocess.run([maven, "package", "-Dmaven.test.skip=true"], capture_output=True, text=True)
    if done.returncode != 0:
        raise SetupError(f"instanttensor's Java engine could not be built.\n{done.stdout}{done.stderr}".strip())


class BuildWithEngine(build_py):
    def run(self) -> None:
        super().run()
        if not engine_is_current():
            build_engine()
        engine = Path(self.build_lib) / "instanttensor/_engine"
        shutil.rmtree(engine, ignore_errors=True)
        engine.mkdir(parents=True)
        for source in self.engine_files():
            shutil.copy2(source, engine / source.name)

    def engine_files(self) -> list[Path]:
        folder = os.environ.get(AOT_FOLDER_VARIABLE)
        return [JAR, JCUDA_DRIVER, *(Path(folder).glob("*.aot") if folder else ())]


class PlatformDistribution(Distribution):
    def has_ext_modules(self) -> bool:
        return True


class PlatformWheel(bdist_wheel):
    """Any Python 3, one platform: the wheel holds a native library but no extension module."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", PLATFORM


class NoSourceDistribution(sdist):
    def run(self) -> None:
        raise SetupError(
            "instanttensor has no source distribution: it would lack the Java engine. "
            "Build a wheel with `make wheel`, or with `pip wheel --no-deps ./python-shim`"
        )


class NoEditableInstall(editable_wheel):
    def run(self) -> None:
        raise SetupError(
            "instanttensor cannot be installed in editable mode: the Java engine lies in the wheel. "
            "`make install` rebuilds the wheel and installs it in .venv"
        )


setup(
    distclass=PlatformDistribution,
    cmdclass={
        "build_py": BuildWithEngine,
        "bdist_wheel": PlatformWheel,
        "sdist": NoSourceDistribution,
        "editable_wheel": NoEditableInstall,
    },
)
