"""``python -m instanttensor doctor`` as a command: JSON, arguments, Ctrl-C, and outputs that take nothing."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from pathlib import Path

import instanttensor
import pytest
from doctor_runs import command, environment, found, started
from samples import run


def test_json_is_one_object_with_the_same_findings(path: Path) -> None:
    of = found(0, "--device", "cpu", path)
    assert of["verdict"] == [{"works": True, "device": "cpu", "verdict": "A load to cpu works here."}]
    assert of["package"][0]["facts"]["version"] == instanttensor.__version__
    assert of["contents"][0]["facts"] == {"path": str(path), "files": 1, "tensors": 2, "bytes": 4024}
    assert of["engine"][0]["facts"]["start_ms"] > 0
    assert set(of) >= {"python", "torch", "java", "jep", "jar", "jcuda", "driver", "io_uring", "file_system", "load"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "the following arguments are required: COMMAND"),
        (("cure",), "invalid choice: 'cure'"),
        (("doctor", "--device", "tpu"), "argument --device: expected cpu, cuda or cuda:N, found 'tpu'"),
        (("doctor", "--no-such-option"), "unrecognized arguments: --no-such-option"),
    ],
)
def test_wrong_arguments_end_with_status_2(arguments: tuple[str, ...], words: str) -> None:
    done = subprocess.run(
        command(*arguments), env=environment(), cwd=os.sep, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


def test_help_explains_the_exit_status_and_starts_nothing() -> None:
    out = run("""
        import contextlib, io, sys
        from instanttensor.__main__ import main
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            main(["doctor", "--help"])
        print("exit status: 0 where every load that was tried worked" in said.getvalue())
        print(sorted({"torch", "_jep", "numpy"} & set(sys.modules)))
    """)
    assert out.splitlines() == ["True", "[]"]


def test_importing_the_package_imports_none_of_it() -> None:
    out = run("""
        import sys, instanttensor
        print([name for name in sys.modules if "doctor" in name or name.endswith("_finding")])
        print("argparse" in sys.modules)
    """)
    assert out.splitlines() == ["[]", "False"]


def test_ctrl_c_ends_it_quietly(path: Path) -> None:
    # As often as it takes to be in the middle of it.
    with started("--device", "cpu", *[path] * 500) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if ": loaded its tensor" in line:
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert "A load to cpu" not in out


def test_a_reader_who_has_seen_enough_is_no_error(path: Path) -> None:
    with started("--device", "cpu", path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_an_output_that_takes_nothing_is_a_sentence(path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command("doctor", "--device", "cpu", path),
            env=environment(), cwd=os.sep, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    told = "The findings could not be printed: [Errno 28] No space left on device"
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, told)


def test_no_output_at_all_is_no_failure(path: Path) -> None:
    line = " ".join(shlex.quote(str(word)) for word in command("doctor", "--device", "cpu", path))
    done = subprocess.run(
        ["sh", "-c", f"{line} >&-"], env=environment(), cwd=os.sep, stderr=subprocess.PIPE, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
