"""Calls into the engine, and keeps the process in order around it.

Everything that crosses to Java does so as `_java` declares it; `_jvm` starts it, nothing else knows
about jep.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import threading
import time
import weakref
from itertools import starmap
from typing import TYPE_CHECKING, Any

from . import _jvm
from ._errors import reraise

if TYPE_CHECKING:
    from ._java import Engine, JavaCheckpoint

# Ctrl-C is noticed between two calls into Java, not inside one.
WAIT_SLICE_MS = 100
# A read that takes longer is told of. Somebody who waits looks for such reads so often.
SLOW_READ_S = 30.0
_LOOK_S = 1.0

NOT_YET = -1
EXHAUSTED = -2
EMPTY = 0

_engine: Engine | None = None
_starting = threading.Lock()
_ending = False
_FOR_EVER_S = 3600.0
# Of a start. Without a rehearsal it takes 60 ms on an H200's host, and the first load 60 ms longer than with all of it.
_START_S = 0.09
# Everything of Java's that Python refers to, by the Python object that does: for a forked child, and
# for the end of the process.
_owners: weakref.WeakSet[JavaOwner] = weakref.WeakSet()


class _LeftBehind:
    """Stands in a forked child for what is Java's: whoever calls it is told."""

    def __getattr__(self, name: str) -> Any:
        _jvm.require_own_process()
        raise AttributeError(name)


LEFT_BEHIND = _LeftBehind()


class JavaOwner:
    """A Python object that refers to one of Java's, and closes it."""

    java: Any = None
    # The process is ending, and Java's object is closed; modules lose their names before the last objects go.
    ended = False

    def __init__(self, java: Any) -> None:
        self.own(java)

    def own(self, java: Any) -> None:
        """From here on it is closed with this object."""
        self.java = java
        _owners.add(self)

    def close(self) -> None:
        """Closes the Java object. Does nothing in a forked child, where there is no Java."""
        java = self.java
        if java is not None and not _jvm.in_forked_child():
            _jvm.leave_with_thread()
            # Twice does no harm; Ctrl-C between forgetting it and closing it would.
            java.close()
        self.java = None

    def __del__(self) -> None:
        if self.java is None or self.ended:
            return
        with contextlib.suppress(Exception):
            self.close()


def engine() -> Engine:
    """The engine, started at the first call.

    Raises
    ------
    RuntimeError
        Where Java cannot be found or started, and in a child forked after the start.
    """
    global _engine
    begun = time.perf_counter()
    # At every call: it looks after the process too (forks, signal handlers).
    found: Engine = _jvm.engine_class()
    if _engine is None:
        with _starting:
            if _engine is None:
                _settle_in(found)
                _engine = found
                _await_rehearsal(found, time.perf_counter() - begun)
    return _engine


def _await_rehearsal(found: Engine, spent_s: float) -> None:
    """Lets the engine rehearse for as long as a start may take; what is missing then goes on beside the first load."""
    left_ms = round((_START_S - spent_s) * 1e3)
    if left_ms > 0:
        found.awaitRehearsal(left_ms)


def _settle_in(found: Engine) -> None:
    table = found.exportTableAddress()
    _jvm.after_fork_in_child(lambda: _disown(found, table))
    # Threads of the engine run on while Python's world ends; what they still read into or copy from has
    # to be quiet by then.
    atexit.register(_close_all)


def wait_open(paths: str, backends: str, expected: Any = None, owner: JavaOwner | None = None) -> JavaCheckpoint:
    """Opens a checkpoint; Ctrl-C gets through while storage takes its time.

    `expected` are the options of the load that will follow, if one will: the engine prepares for it.
    `owner` is made its owner before Ctrl-C can come in between.
    """
    java = engine()
    try:
        openings: list[Any] = []
        try:
            keep(openings, java.open, paths, backends, expected)
            patience = Patience()
            while True:
                checkpoint: JavaCheckpoint | None = getattr(openings[0], "await")(WAIT_SLICE_MS)
                if checkpoint is not None:
                    if owner is not None:
                        owner.own(checkpoint)
                    return checkpoint
                patience.look()
        except BaseException:
            for opening in openings:
                opening.abandon()
            raise
    except Exception as error:
        reraise(java, error)


class Patience:
    """Of a load, or of an opening: tells of reads that have taken long, each once, through the logger
    "instanttensor".

    It lasts as long as they do, and not as one wait: a read may have begun while nobody waited.
    """

    def __init__(self) -> None:
        self._next = time.monotonic() + _LOOK_S

    def look(self) -> None:
        """Called between slices of waiting, however short they are."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _LOOK_S
        texts = engine().slowReads(round(SLOW_READ_S * 1e3))
        if texts is not None:
            import logging

            for text in texts:
                logging.getLogger("instanttensor").warning("%s", text)


def wait_answer(ask: Any, *arguments: Any) -> list[str]:
    """What the engine answers about the machine; Ctrl-C gets through while storage or a driver takes its time."""
    answer = call(ask, *arguments)
    while True:
        texts = call(getattr(answer, "await"), WAIT_SLICE_MS)
        if texts is not None:
            return list(texts)


def call(function: Any, *arguments: Any) -> Any:
    """Calls into the engine; what it throws is raised as the Python exception it stands for."""
    _jvm.leave_with_thread()
    try:
        return function(*arguments)
    except Exception as error:
        _stay_if_ending()
        reraise(engine(), error)


def keep(results: list[Any], function: Any, *arguments: Any) -> None:
    """Appends what a call into the engine returns, for results that somebody has to give back.

    Ctrl-C cannot come in between: a result that is on its way to a variable would be lost, and with
    it what it stands for (a load that runs, a slab).
    """
    _jvm.leave_with_thread()
    try:
        results.extend(starmap(function, (arguments,)))
    except Exception as error:
        _stay_if_ending()
        reraise(engine(), error)


def _close_all() -> None:
    global _ending
    if _jvm.in_forked_child():
        return
    _ending = True
    for owner in list(_owners):
        # The owner itself stays as it is: a daemon thread may be using it.
        java = owner.java
        owner.ended = True
        if java is not None:
            with contextlib.suppress(Exception):
                java.close()


def _stay_if_ending() -> None:
    """Holds a daemon thread whose load was closed because the process ends.

    Python stops such threads wherever they are; an error of ours would only be printed.
    """
    while _ending and threading.current_thread() is not threading.main_thread():
        time.sleep(_FOR_EVER_S)


def _disown(engine_class: Engine, table: int) -> None:
    """Makes a forked child forget Java: no deleter, no reference is ever given back there.

    The JVM's threads exist in the parent alone; a call into it would wait for them for ever, if one of its pauses had
    begun.
    """
    int64 = ctypes.c_int64
    blocks, slots, slot_bytes, deleter_offset = (int64 * 4).from_address(table)
    addresses = (int64 * blocks).from_address(table + 4 * ctypes.sizeof(int64))
    for block in addresses:
        for slot in range(slots):
            int64.from_address(block + slot * slot_bytes + deleter_offset).value = 0
    # What jep made of Java's classes and interfaces it drops as the interpreter ends.
    _keep_for_ever(engine_class)
    for kind in type.__subclasses__(object):
        if str(kind.__module__).startswith(("java.", "io.instanttensor.")):
            _keep_methods(kind)
    for owner in list(_owners):
        if owner.java is not None:
            _keep_for_ever(owner.java)
            owner.java = LEFT_BEHIND


def _keep_for_ever(java: Any) -> None:
    """One reference too many, so that jep never tells Java to drop it."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(java))


def _keep_methods(kind: type) -> None:
    """Of a type of jep's, and of all that derive from it: each method holds a reference of its own."""
    _keep_for_ever(kind)
    for method in vars(kind).values():
        _keep_for_ever(method)
    derived: type
    for derived in type.__subclasses__(kind):
        _keep_methods(derived)
