"""However a process ends: its own exit status, nothing on standard error, no hang."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lifecycle_support import finish, run, start, write


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 tensors of 2 MiB, for a load that is still under way when the process ends."""
    return write(tmp_path_factory.mktemp("large") / "model.safetensors", 32, 1 << 19)


LIVE = """
    f = safe_open(sys.argv[1], "np", copy=False)
    tensors = dict(f.tensors())
"""
UNDER_WAY = """
    f = safe_open(sys.argv[1], "np", copy=False, buffer_size=4 << 20, chunk_size=64 << 10)
    generator = f.tensors()
    name, tensor = next(generator)
"""
ITERATING_DAEMON = """
    def iterate():
        while True:
            with safe_open(sys.argv[1], "np", copy=False, buffer_size=4 << 20) as f:
                for name, tensor in f.tensors():
                    started.set()
                f.get_tensor("t000")
    started = threading.Event()
    for _ in range(2):
        threading.Thread(target=iterate, daemon=True).start()
    started.wait()
"""
# A script for its end; what of it are the status and the last line of standard error.
ENDS = {
    "the end of the script": ("pass", 0, ""),
    "sys.exit": ("sys.exit(3)", 3, ""),
    "an exception": ("raise ValueError('enough')", 1, "ValueError: enough"),
    "os._exit": ("os._exit(4)", 4, ""),
    "sys.exit in a thread": ("t = threading.Thread(target=sys.exit, args=(5,)); t.start(); t.join()", 0, ""),
    "SIGTERM": ("os.kill(os.getpid(), 15); time.sleep(30)", -signal.SIGTERM, ""),
    "an atexit function that loads": ("import atexit; atexit.register(lambda: dict(f.tensors()))", 0, ""),
    "a collection and the end": ("del f; gc.collect()", 0, ""),
}


def ends(script: str, end: str, large: Path, *flags: str, **environment: str) -> None:
    text, status, last = ENDS[end]
    done = finish(start(script + "\n    " + text, large, flags=flags, **environment))
    assert (done.returncode, done.stderr.strip().splitlines()[-1:]) == (status, [last] if last else []), done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("end", ENDS)
def test_with_tensors_alive(large: Path, end: str) -> None:
    ends(LIVE, end, large)


@pytest.mark.parametrize("end", ENDS)
def test_with_a_load_under_way(large: Path, end: str) -> None:
    ends(UNDER_WAY, end, large)


@pytest.mark.parametrize("end", ["the end of the script", "an exception", "sys.exit"])
def test_with_daemon_threads_that_load(large: Path, end: str) -> None:
    for _ in range(2):
        ends(ITERATING_DAEMON, end, large)


@pytest.mark.parametrize("end", ["the end of the script", "an exception"])
@pytest.mark.parametrize("script", [LIVE, UNDER_WAY], ids=["alive", "under way"])
def test_in_development_mode(large: Path, script: str, end: str) -> None:
    ends(script, end, large, "-X", "dev")


@pytest.mark.parametrize("torch_first", [True, False])
@pytest.mark.parametrize("script", [LIVE, UNDER_WAY], ids=["alive", "under way"])
def test_with_torch(large: Path, script: str, torch_first: bool) -> None:
    # Its atexit functions and ours run in the reverse order of the imports.
    script = script.replace('"np"', '"pt"')
    if torch_first:
        script = "\n    import torch" + script
    else:
        script = '\n    safe_open(sys.argv[1], "np")\n    import torch' + script
    ends(script, "the end of the script", large)


def test_with_tensors_in_a_module_of_their_own(large: Path, tmp_path: Path) -> None:
    (tmp_path / "holder.py").write_text("kept = {}\n")
    ends(f"\n    sys.path.insert(0, {str(tmp_path)!r})\n    import holder" + LIVE + "    holder.kept.update(tensors)",
         "the end of the script", large)  # fmt: skip


@pytest.mark.parametrize("when", ["before", "after", "before, and disabled after", "after every load"])
def test_faulthandler_stays_silent(large: Path, when: str) -> None:
    enable = "\n    faulthandler.enable()"
    script = {
        "before": enable + LIVE,
        "after": LIVE + enable + LIVE,
        "before, and disabled after": enable + LIVE + "\n    faulthandler.disable()" + LIVE,
        "after every load": LIVE + enable + LIVE + enable + LIVE + enable,
    }[when]
    # Collections of Java's and uncommon paths are what signals are used for.
    more = '\n    for _ in range(20): safe_open(sys.argv[1], "np").get_tensor("t001")\n    sys.exit(0)'
    assert run(script + more, large) == ""


def test_a_script_that_only_opens_ends(large: Path) -> None:
    assert run('safe_open(sys.argv[1], "np")', large) == ""


def test_a_script_that_only_imports_ends() -> None:
    assert run("import instanttensor") == ""


@pytest.mark.parametrize("left", ["", "tensors = f.tensors(); next(tensors)"], ids=["a_file", "a_loop_in_the_middle"])
def test_what_lives_until_the_modules_are_gone_ends_without_a_word(large: Path, left: str) -> None:
    # At the top of a script, behind torch, whose modules keep these alive the longest.
    script = f"""
import sys, torch
from instanttensor import safe_open
with safe_open(sys.argv[1], "pt") as f:
    for name, tensor in f.tensors():
        pass
f = safe_open(sys.argv[1], "pt")
{left}
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(large)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
