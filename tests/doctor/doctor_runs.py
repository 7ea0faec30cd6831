"""Runs of ``python -m instanttensor doctor``, and what they told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import instanttensor

PACKAGE = Path(instanttensor.__file__).parent
HIDING = Path(__file__).parent / "hiding"
# torch takes longer to import than all else takes together; where it does not matter, numpy does as well.
WITH_TORCH = {"HIDDEN_PACKAGES": ""}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "instanttensor", *map(str, arguments)]


def environment(**variables: object) -> dict[str, str]:
    """With this package first on the path, wherever the tests have it from; None takes a variable out."""
    path = os.pathsep.join(filter(None, (str(HIDING), str(PACKAGE.parent), os.environ.get("PYTHONPATH"))))
    merged = {**os.environ, "PYTHONPATH": path, "HIDDEN_PACKAGES": "torch", **variables}
    return {name: str(value) for name, value in merged.items() if value is not None}


def ends(status: int, *arguments: object, **variables: object) -> list[str]:
    """The lines of a run that ends so, with nothing on standard error."""
    done = subprocess.run(
        command("doctor", *arguments),
        env=environment(**variables),
        # With -m this folder comes first on the path.
        cwd=os.sep,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (status, ""), done.stdout + done.stderr
    return done.stdout.splitlines()


def found(status: int, *arguments: object, **variables: object) -> dict[str, list[dict[str, Any]]]:
    """The findings of such a run by their checks, and the verdict under its name."""
    whole = json.loads("\n".join(ends(status, "--json", *arguments, **variables)))
    checks: dict[str, list[dict[str, Any]]] = {}
    for finding in whole.pop("findings"):
        checks.setdefault(finding["check"], []).append(finding)
    return {**checks, "verdict": [whole]}


def started(*arguments: object) -> subprocess.Popen[str]:
    """Such a run under way, its outputs in pipes."""
    return subprocess.Popen(
        command("doctor", *arguments),
        env=environment(),
        cwd=os.sep,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
