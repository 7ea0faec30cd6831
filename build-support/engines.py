"""Unpacks released inference engines beside each other, without installing them.

Usage: engines.py FOLDER (with the Python that will run them)

Each of RELEASES lies in a folder of its own under FOLDER, as its wheel holds it. Native code is left out: kernels
for GPUs and servers, which nothing here calls. FOLDER appears when it is complete.
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ELF = b"\x7fELF"
# Folder, and what pip calls the release in it.
RELEASES = {
    "vllm": "vllm==0.33.0",
    "sglang": "sglang==0.5.23",
    # The last one without the load format.
    "sglang-0.5.21": "sglang==0.5.21",
}


def main(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        unpacked = Path(scratch, "unpacked")
        for name, release in RELEASES.items():
            unpack(download(release, Path(scratch, name)), unpacked / name)
        unpacked.rename(folder)


def download(release: str, into: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--only-binary", ":all:", "--dest", str(into), release], check=True)
    (wheel,) = into.glob("*.whl")
    return wheel


def unpack(wheel: Path, into: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(into, [name for name in archive.namelist() if not is_native(archive, name)])
    wheel.unlink()


def is_native(archive: zipfile.ZipFile, name: str) -> bool:
    with archive.open(name) as member:
        return member.read(len(ELF)) == ELF


if __name__ == "__main__":
    main(Path(sys.argv[1]))
