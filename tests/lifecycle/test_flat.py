"""Many opens later the process holds what it held before."""

from __future__ import annotations

from pathlib import Path

import pytest
from lifecycle_support import run

# Ways of using a file. Each leaves nothing behind, whatever its end.
USES = {
    "all tensors": """
        with opened() as f:
            for name, tensor in f.tensors():
                pass
    """,
    "a few tensors": """
        with opened() as f:
            for name, tensor in f.tensors():
                if name == "t005":
                    break
    """,
    "without close": """
        f = opened()
        generator = f.tensors()
        next(generator)
    """,
    "by name": """
        with opened() as f:
            f.get_tensor("t003"), f.get_tensors(["t001", "t009"])
    """,
    "slices": """
        with opened() as f:
            f.get_slice("t003")[10:20], f.get_slice("t004")[::7]
    """,
    "tensors that outlive the file": """
        with opened() as f:
            tensors = dict(f.tensors())
    """,
    "an exception in the loop": """
        try:
            with opened() as f:
                for name, tensor in f.tensors():
                    raise KeyError(name)
        except KeyError:
            pass
    """,
    "files that cannot be opened": """
        for bad in (missing, broken):
            try:
                safe_open([path, bad], framework)
            except (OSError, SafetensorError):
                pass
    """,
    "names that there are not": """
        with opened() as f:
            try:
                f.get_tensor("nobody")
            except SafetensorError:
                pass
    """,
    "a file that was cut": """
        shutil.copy(path, cut)
        with safe_open(cut, framework, chunk_size=64 << 10, buffer_size=300000) as f:
            generator = f.tensors()
            next(generator)
            os.truncate(cut, 1 << 19)
            try:
                list(generator)
            except OSError:
                pass
    """,
}
SCRIPT = """
    import shutil
    from safetensors import SafetensorError
    path, missing, broken, cut, framework = sys.argv[1:]
    def opened():
        return safe_open(path, framework, copy=False, buffer_size=300000)
    def once():
{use}
    def counted():
        gc.collect()
        eventually(lambda: not readers(), "readers gone")
        eventually(lambda: live_exports() == 0, "slabs given back")
        return descriptors(), len(threads()), resident_bytes()
    # Until Java's heap has touched all of its young part once, 72 MiB at most: some of these leave 100 KiB each.
    for _ in range(800):
        once()
    files, tasks, bytes_before = counted()
    for _ in range(200):
        once()
    # An executor's last thread, or a helper of Java's, may still be on its way out.
    eventually(lambda: counted()[:2] <= (files, tasks), f"{{(files, tasks)}} again, now {{counted()}} {{threads()}}")
    grown = counted()[2] - bytes_before
    # 200 slabs are 20 MB, 200 loads 470 MB; a compiler and a heap that settle in are less.
    print("flat" if grown < 16 << 20 else f"grown by {{grown}}")
"""


@pytest.mark.parametrize("use", USES)
def test_two_hundred_opens_leave_nothing(checkpoint: Path, tmp_path: Path, use: str) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\0" * 100)
    framework = "pt" if use in ("all tensors", "by name") else "np"
    script = SCRIPT.format(use=USES[use])
    arguments = (checkpoint, tmp_path / "missing.safetensors", broken, tmp_path / "cut.safetensors", framework)
    assert run(script, *arguments) == "flat"
