"""Scripts in fresh processes: a process starts Java once."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest


def start(script: str, *flags: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *flags, "-c", textwrap.dedent(script)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    try:
        out, err = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        pytest.fail(f"the script hung; so far: {out}{err}")
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def run(script: str, *flags: str, **environment: str) -> str:
    """What a script prints; it has to end well and leave standard error empty."""
    done = finish(start(script, *flags, **environment))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout.strip()


def refusal(script: str, **environment: str) -> str:
    """The last line of a script that ends by an exception."""
    done = finish(start(script, **environment))
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stderr.strip().splitlines()[-1]


START = "from instanttensor import _jvm; _jvm.engine_class()"
