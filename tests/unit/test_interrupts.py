"""Ctrl-C at places that only luck would find."""

from __future__ import annotations

import subprocess
import sys

import pytest

# A function of C's, as the engine's are for Python: a signal that arrives inside is noticed as it returns.
NO_SLAB_YET = """
import ctypes, functools, os, types
from instanttensor import _bridge, _loading
from instanttensor._capsule import Export

class Answer:
    poll = functools.partial(ctypes.CDLL(None).kill, os.getpid(), 2)

export = Export()
try:
    load = types.SimpleNamespace(alive=Answer, _patience=_bridge.Patience())
    _loading.SlabLoad.next_slab(load, export, 0, print)
except KeyboardInterrupt:
    export.give_back()
    print("interrupted", export.address)
"""
NO_ADDRESS = """
from instanttensor._capsule import Export

export = Export()
export.address.append({number})
export.give_back()
print("fine")
"""


def output(script: str) -> str:
    # In a process of its own: what goes wrong here ends it.
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_ctrl_c_while_the_engine_answers_that_there_is_no_slab() -> None:
    assert output(NO_SLAB_YET) == "interrupted [0]"


@pytest.mark.parametrize("number", [0, -1, -2])
def test_what_is_no_address_is_not_given_back(number: int) -> None:
    assert output(NO_ADDRESS.format(number=number)) == "fine"
