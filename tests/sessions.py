"""Programs that start processes of their own, run to their end."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence


def outcome(
    command: Sequence[str], *, patience_s: float, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """What a program printed, and its exit status; AssertionError where it does not end in time.

    It is a session of its own, and what it has started ends with it: processes that hold its pipe would hold
    up whoever reads it.
    """
    process = subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, err = process.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"not over within {patience_s} s: {out}{err[-5000:]}") from None
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
