"""How a rank of test_failing_ranks.py leaves, or is made to: out of the loop, by closing the file, by Ctrl-C."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

import torch
from failing_world import PATIENCE_S, Here, failing_in, kept, told
from instanttensor import _distributed, safe_open
from rank_worlds import Cases

# So long do the others stay away from a rank that is to be interrupted while it waits for them, and so long does it
# wait before that.
AWAY_S, INTO_IT_S = 0.6, 0.3
# Ctrl-C so many times, each within so long.
STORM, STORM_S = 25, 0.05

CASES = Cases()
failing = failing_in(CASES)


def until(here: Here, f: safe_open, leave: Callable[[], None], *, after: int = 6) -> None:
    """Takes all tensors; the rank that fails takes leave after some."""
    for n, _ in enumerate(f.tensors()):
        if here.fails and n == after:
            leave()


@failing
def a_break(here: Here) -> None:
    with here.open(copy=False) as f:
        for n, (_, tensor) in enumerate(f.tensors()):
            if here.fails and n == 6:
                break
            del tensor


@failing
def a_break_at_the_first(here: Here) -> None:
    with here.open() as f:
        for _ in f.tensors():
            if here.fails:
                break


@failing
def a_generator_closed(here: Here) -> None:
    with here.open() as f:
        tensors = f.tensors()
        for _ in tensors:
            if here.fails:
                tensors.close()  # type: ignore[attr-defined]


@failing
def an_error_of_the_loop(here: Here) -> None:
    def leave() -> None:
        raise ZeroDivisionError("in the loop")

    try:
        with here.open(copy=False) as f:
            until(here, f, leave)
    except ZeroDivisionError as error:
        kept.append(error)
        raise


@failing
def a_file_closed_in_the_loop(here: Here) -> None:
    f = here.open()
    until(here, f, f.close)


@failing
def a_file_closed_by_another_thread(here: Here) -> None:
    f = here.open()

    def leave() -> None:
        closing = threading.Thread(target=f.close)
        closing.start()
        closing.join()

    until(here, f, leave)


@failing
def a_file_closed_while_it_waits(here: Here) -> None:
    f = here.open()
    later(here, f.close)
    with_the_others_away(here, f)


def with_the_others_away(here: Here, f: safe_open) -> None:
    """Takes all tensors; the rank that fails has to wait for the others in the middle."""
    for n, _ in enumerate(f.tensors()):
        if n == 6 and not here.fails:
            time.sleep(AWAY_S)


def later(here: Here, action: Callable[[], None]) -> None:
    """Has the rank that fails do something while it waits."""
    if here.fails:
        timer = threading.Timer(INTO_IT_S, action)
        timer.daemon = True
        timer.start()


# ------------------------------------------------------------------------------------------- Ctrl-C


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@failing
def interrupted_while_others_open(here: Here) -> None:
    later(here, interrupt)
    if not here.fails:
        time.sleep(AWAY_S)
    here.load()


@failing
def interrupted_while_others_start(here: Here) -> None:
    with here.open() as f:
        later(here, interrupt)
        if not here.fails:
            time.sleep(AWAY_S)
        for _ in f.tensors():
            pass


@failing
def interrupted_while_others_load(here: Here) -> None:
    with here.open() as f:
        later(here, interrupt)
        with_the_others_away(here, f)


@failing
def interrupted_in_the_loop(here: Here) -> None:
    with here.open() as f:
        until(here, f, interrupt)


def interrupted_after(here: Here, doing: str) -> None:
    """Ctrl-C for the rank that fails, between what all do jointly and what follows it."""
    jointly, asked = _distributed.Group.jointly, []

    @contextmanager
    def interrupted(group: _distributed.Group, what: str) -> Iterator[_distributed.Round]:
        with jointly(group, what) as round_of:
            yield round_of
        if what == doing and not asked:
            asked.append(what)
            signal.raise_signal(signal.SIGINT)

    with mock.patch.object(_distributed.Group, "jointly", interrupted) if here.fails else ExitStack():
        here.load()


@failing
def interrupted_after_opening(here: Here) -> None:
    interrupted_after(here, "to open the checkpoint")


@failing
def interrupted_after_sizing(here: Here) -> None:
    interrupted_after(here, "to size its slabs")


@failing
def interrupted_after_starting(here: Here) -> None:
    interrupted_after(here, "to start loading")


def interrupted_at_any_moment(folder: Path, rank: int, world: int, device: torch.device) -> str:
    """Ctrl-C at moments that nobody chose, once tensors come. Then all load again, and another one is interrupted."""
    moments = random.Random(7)
    answers = []
    for number in range(STORM):
        here, moment_s = Here(folder, rank, world, number % world, device), moments.random() * STORM_S
        answers.append(json.loads(told(partial(in_a_storm, after_s=moment_s), here)))
    return json.dumps(answers)


def in_a_storm(here: Here, after_s: float) -> None:
    timer = threading.Timer(after_s, interrupt)
    with here.open(buffer_size=250_000) as f:
        for n, _ in enumerate(f.tensors()):
            if here.fails and n == 0:
                timer.start()
    if here.fails:
        # It comes for sure, and here at the latest.
        time.sleep(PATIENCE_S)


CASES["interrupted_at_any_moment"] = interrupted_at_any_moment
