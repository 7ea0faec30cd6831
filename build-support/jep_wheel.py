"""Builds jep's wheel from its source distribution so that it runs on every Python of this one's minor version.

jep's own build links the extension to the libpython of the Python that builds it and, where that is a shared one, to
its folder. A statically linked Python has no such library, and two copies of the interpreter in one process are worse
than none. The process that imports jep holds Python's symbols already, so the link gets an empty libpython, which
the linker then drops.

Usage: jep_wheel.py FOLDER (with the Python for which jep is built, JAVA_HOME set, setuptools and wheel installed)
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

import elf

REQUIREMENT = Path(__file__).with_name("jep.txt")


def main(wheelhouse: Path) -> None:
    wheelhouse.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        built = build(Path(scratch))
        platform = check(built)
        finished = repack(built, Path(scratch), platform)
        check(finished)
        for old in wheelhouse.glob("-".join(finished.name.split("-")[:-1]) + "-*.whl"):
            old.unlink()
        shutil.copy2(finished, wheelhouse)
        print(wheelhouse / finished.name)


def build(scratch: Path) -> Path:
    compiler = os.environ.get("CC", "cc")
    decoy = scratch / "decoy"
    decoy.mkdir()
    name = "python" + (sysconfig.get_config_var("LDVERSION") or sysconfig.get_config_var("VERSION"))
    command = [*compiler.split(), "-shared", "-x", "c", "/dev/null", "-o", str(decoy / f"lib{name}.so")]
    subprocess.run(command, check=True)
    environment = {
        **os.environ,
        "CC": f"{compiler} -pthread",
        # Ours instead of the Python's own, which may hold a run path. The decoy's folder comes before all others.
        "LDSHARED": f"{compiler} -pthread -shared -L{decoy} -Wl,--as-needed",
        "LDFLAGS": "",
        # Without debug information and assertions: both name folders of this machine.
        "CFLAGS": "-O2 -fPIC -fwrapv -DNDEBUG -g0",
    }
    # pip would take a jep that something else built from its cache of wheels.
    pip_wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-cache-dir", "--no-build-isolation", "--no-deps"]
    requirement = ["--no-binary", "jep", "--require-hashes", "--requirement", str(REQUIREMENT)]
    subprocess.run([*pip_wheel, *requirement, "--wheel-dir", str(scratch)], check=True, env=environment)
    return next(scratch.glob("jep-*.whl"))


def check(wheel: Path) -> str:
    """Fails if a library is bound to one machine; returns the platform tag that the libraries ask for."""
    glibc = (2, 17)
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if not name.endswith(".so"):
                continue
            demands = elf.demands(archive.read(name))
            if bound := [*(n for n in demands.needed if n.startswith("libpython")), *demands.search_paths]:
                sys.exit(f"{wheel.name}: {name} is bound to the Python it was built with: {', '.join(bound)}")
            glibc = max(glibc, demands.glibc())
    return f"manylinux_{glibc[0]}_{glibc[1]}_x86_64"


def repack(wheel: Path, scratch: Path, platform: str) -> Path:
    """Leaves out the launcher script, which names folders of the builder's, and sets the platform tag."""
    tool = [sys.executable, "-m", "wheel"]
    subprocess.run([*tool, "unpack", "--dest", scratch / "unpacked", wheel], check=True, stdout=subprocess.DEVNULL)
    folder = next((scratch / "unpacked").iterdir())
    shutil.rmtree(next(folder.glob("*.data")))
    repacked = scratch / "repacked"
    repacked.mkdir()
    subprocess.run([*tool, "pack", "--dest-dir", repacked, folder], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(
        [*tool, "tags", "--remove", "--platform-tag", platform, next(repacked.iterdir())],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return next(repacked.iterdir())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
