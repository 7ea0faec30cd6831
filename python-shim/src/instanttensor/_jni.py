"""The few functions of JNI and of the C library that starting Java takes, through ctypes.

Imported at the first start only. ctypes releases the GIL around every call here, and the attachment
relies on that: it takes the GIL on a thread of Java's.
"""

from __future__ import annotations

import ctypes
import faulthandler
import locale
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from ._jvm_options import OPTIONS_OF_OTHERS

_JNI_VERSION_21 = 0x00150000

# Places of the functions used, in the tables that JNI's interface pointers lead to.
_DETACH_CURRENT_THREAD = 5
_FIND_CLASS = 6
_EXCEPTION_OCCURRED = 15
_EXCEPTION_CLEAR = 17
_GET_OBJECT_CLASS = 31
_GET_METHOD_ID = 33
_CALL_OBJECT_METHOD_A = 36
_GET_STATIC_METHOD_ID = 113
_CALL_STATIC_VOID_METHOD_A = 143
_NEW_STRING_UTF = 167
_GET_STRING_UTF_CHARS = 169
_REGISTER_NATIVES = 215

_ATTACHMENT = b"io/instanttensor/bridge/JepAttachment"
# Its native methods: name, signature, and the export of libjep.so that serves each. What they do,
# and why these, is told there.
_JEP_FUNCTIONS = (
    (b"cacheFrequentClasses", b"()I", "cache_frequent_classes"),
    (b"cachePrimitiveClasses", b"()I", "cache_primitive_classes"),
    (b"initShared", b"(Ljava/lang/ClassLoader;JZ)J", "Java_jep_Jep_init_1shared"),
    (b"close", b"(JZ)V", "Java_jep_Jep_close"),
)

# Signals by which a running Java learns of events in its own compiled code (a null pointer, a pause
# for the garbage collector). Any other fault goes to the handler that was there before Java's.
_FAULT_SIGNALS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
# Signals that Java takes as well and, as used here, has no need of.
_SPARE_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGUSR2)
# struct sigaction has 152 bytes here. It is carried about whole; only the handler, its first word, and the
# flags are looked at.
_SIGACTION_BYTES = 256
_SA_SIGINFO = 4

_libc = ctypes.CDLL(None, use_errno=True)


def is_jvm_running() -> bool:
    """Whether this process has a Java virtual machine, whoever started it."""
    try:
        # By its soname, wherever it lies: an answer only where it is loaded already.
        libjvm = ctypes.CDLL("libjvm.so", mode=os.RTLD_NOLOAD)
    except OSError:
        return False
    count = ctypes.c_int()
    libjvm.JNI_GetCreatedJavaVMs(None, 0, ctypes.byref(count))
    return count.value > 0


class _Option(ctypes.Structure):
    _fields_ = (("text", ctypes.c_char_p), ("extra", ctypes.c_void_p))


class _InitArgs(ctypes.Structure):
    _fields_ = (
        ("version", ctypes.c_int),
        ("count", ctypes.c_int),
        ("options", ctypes.POINTER(_Option)),
        ("ignore_unrecognized", ctypes.c_ubyte),
    )


class _NativeMethod(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("signature", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
    )


class Jvm:
    """A Java virtual machine, started on the calling thread and never taken down.

    Parameters
    ----------
    libjvm : Path
        The library to start.
    options : list of str
        As JNI_CreateJavaVM takes them; the launcher's own (-cp, -version) are not among those.

    Raises
    ------
    RuntimeError
        Java refused. It has then written its reason to standard error.
    """

    def __init__(self, libjvm: Path, options: list[str]) -> None:
        # Global, since libjep looks JNI_GetCreatedJavaVMs up there.
        library = ctypes.CDLL(str(libjvm), mode=ctypes.RTLD_GLOBAL)
        texts = [os.fsencode(option) for option in options]
        # Each keeps the one before alive; Java copies what it needs beyond the call.
        array = (_Option * len(texts))(*(_Option(text, None) for text in texts))
        args = _InitArgs(_JNI_VERSION_21, len(texts), array, 0)
        self._vm = ctypes.c_void_p()
        self._env = ctypes.c_void_p()
        rc = library.JNI_CreateJavaVM(ctypes.byref(self._vm), ctypes.byref(self._env), ctypes.byref(args))
        if rc != 0:
            raise RuntimeError(f"JNI_CreateJavaVM: error {rc}, its reason is on standard error")

    def attach_jep(self, libjep: Path) -> None:
        """Has JepAttachment register the module ``_jep`` in the running interpreter.

        Raises
        ------
        RuntimeError
            With the text of what Java threw, or the name of the export that `libjep` lacks.
        """
        attachment = self._find_class(_ATTACHMENT)
        self._register_natives(attachment, ctypes.CDLL(str(libjep)), libjep)
        attach = self._pointer(_GET_STATIC_METHOD_ID, attachment, b"attach", b"(Ljava/lang/String;J)V")
        self._raise_thrown()
        get_thread_state = ctypes.pythonapi.PyThreadState_Get
        get_thread_state.restype = ctypes.c_void_p
        # struct JepThread { globals, tstate, env, classloader, caller }; it, and this thread's
        # state, outlive the call.
        seed = (ctypes.c_void_p * 5)(None, get_thread_state())
        arguments = (ctypes.c_uint64 * 2)(self._pointer(_NEW_STRING_UTF, os.fsencode(libjep)), ctypes.addressof(seed))
        self._call(_CALL_STATIC_VOID_METHOD_A, None, attachment, attach, arguments)
        self._raise_thrown()

    def detach_thread(self) -> None:
        """Gives the thread back as it was. jep attaches every thread that calls Java by itself."""
        detach = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
        detach(_function(self._vm, _DETACH_CURRENT_THREAD))(self._vm)

    def _register_natives(self, attachment: int, library: ctypes.CDLL, path: Path) -> None:
        methods = (_NativeMethod * len(_JEP_FUNCTIONS))()
        for method, (name, signature, export) in zip(methods, _JEP_FUNCTIONS, strict=True):
            if not hasattr(library, export):
                raise RuntimeError(f"{path} does not export {export}")
            # The array keeps the texts alive; the library is never unloaded.
            method.name = name
            method.signature = signature
            method.function = ctypes.cast(library[export], ctypes.c_void_p)
        self._call(_REGISTER_NATIVES, ctypes.c_int, attachment, methods, len(_JEP_FUNCTIONS))
        self._raise_thrown()

    def _find_class(self, name: bytes) -> int:
        found = self._pointer(_FIND_CLASS, name)
        self._raise_thrown()
        return found

    def _raise_thrown(self) -> None:
        thrown = self._pointer(_EXCEPTION_OCCURRED)
        if thrown == 0:
            return
        self._call(_EXCEPTION_CLEAR, None)
        type_of_it = self._pointer(_GET_OBJECT_CLASS, thrown)
        to_string = self._pointer(_GET_METHOD_ID, type_of_it, b"toString", b"()Ljava/lang/String;")
        text = self._pointer(_CALL_OBJECT_METHOD_A, thrown, to_string, None)
        words: bytes = self._call(_GET_STRING_UTF_CHARS, ctypes.c_char_p, text, None)
        raise RuntimeError(words.decode(errors="replace"))

    def _pointer(self, index: int, *args: Any) -> int:
        return self._call(index, ctypes.c_void_p, *args) or 0

    def _call(self, index: int, result: Any, *args: Any) -> Any:
        # Whatever is passed is a pointer or as wide as one; `args` keeps it alive.
        types = [ctypes.c_char_p if isinstance(a, bytes) else ctypes.c_void_p for a in args]
        function = ctypes.CFUNCTYPE(result, ctypes.c_void_p, *types)
        return function(_function(self._env, index))(self._env, *args)


def _function(interface: ctypes.c_void_p, index: int) -> int:
    table = ctypes.cast(interface, ctypes.POINTER(ctypes.POINTER(ctypes.c_void_p)))[0]
    return table[index] or 0


class FaultHandlers:
    """Java's handlers of its fault signals, as they were right after its start.

    Others get in their way. `faulthandler`, enabled after Java's start, lies above them and prints
    "Fatal Python error" for events of Java's daily life; enabled before and disabled after, it puts
    back what it had found itself, and the next such event kills the process. apache-tvm-ffi, which
    SGLang, vLLM and flashinfer bring in with their first kernel, installs one that aborts.
    """

    def __init__(self) -> None:
        self._actions = {number: _action(number) for number in _FAULT_SIGNALS}
        self._usual = _handler(self._actions[signal.SIGSEGV])

    def are_displaced(self) -> bool:
        """Whether somebody else's handler of SIGSEGV, the signal of Java's daily life, lies above."""
        return _handler(_action(signal.SIGSEGV)) != self._usual

    def reinstall(self) -> None:
        """Puts them back where what took their place cannot pass a fault on to them.

        Java's need to know where the fault was, and only a handler with SA_SIGINFO can tell. It loses
        little: a fault that is not Java's ends in Java's report and abort(), and faulthandler sees
        SIGABRT.
        """
        for number, action in self._actions.items():
            found = _action(number)
            # Of SIGSEGV Java cannot do without; of the others a program may make its own use.
            is_theirs = number != signal.SIGSEGV and _is_pythons(found)
            if not _flags(found) & _SA_SIGINFO and not is_theirs:
                _libc.sigaction(int(number), action, None)


def load_keeping_fault_handlers(library: Path) -> None:
    """Loads a library whose constructor installs handlers of faults, and puts those back that were there.

    It is loaded once in a process: whoever needs it later finds it there, and nothing is installed again.
    """
    actions = {number: _action(number) for number in _FAULT_SIGNALS}
    try:
        ctypes.CDLL(str(library))
    except OSError:
        return  # whoever needs it will be told
    finally:
        for number, action in actions.items():
            _libc.sigaction(int(number), action, None)


@contextmanager
def signals_later() -> Iterator[None]:
    """Has Python's handlers of signals, Ctrl-C's among them, called at the end of the context.

    Where they are not called on this thread, nothing is changed; and faults, which cannot wait, are Java's.
    """
    process = os.getpid()
    waiting = signal.valid_signals() - set(_FAULT_SIGNALS)
    handlers: dict[int, Callable[[int, Any], Any]] = {
        number: handler for number in waiting if callable(handler := signal.getsignal(number))
    }
    arrived: list[tuple[int, Any]] = []

    def later(number: int, frame: Any) -> None:
        if os.getpid() == process:
            arrived.append((number, frame))
        else:
            # A child that another thread has forked: there the context never ends.
            handlers[number](number, frame)

    def call_all() -> None:
        with ExitStack() as calls:
            for number, frame in reversed(arrived):
                calls.callback(handlers[number], number, frame)

    with ExitStack() as undo:
        undo.callback(call_all)
        for number, handler in handlers.items():
            undo.callback(_put_back, number, handler, _action(number), later)
            # Refused on another thread than the main one, which is where they are called.
            with suppress(ValueError):
                signal.signal(number, later)
        yield


def _put_back(number: int, handler: Any, action: Any, instead: Any) -> None:
    if signal.getsignal(number) is instead:
        signal.signal(number, handler)
        # With the flags that somebody may have set.
        _libc.sigaction(int(number), action, None)


@contextmanager
def unchanged_process() -> Iterator[None]:
    """Undoes what Java's start does to the process beyond what Java needs."""
    # Java adopts the user's locale; Python leaves all but LC_CTYPE at "C", and C code that parses
    # numbers relies on that.
    adopted = locale.setlocale(locale.LC_ALL)
    actions = {number: _action(number) for number in _SPARE_SIGNALS}
    try:
        with _locale_of_file_names(), _without_options_of_others(), _without_foreign_fault_handlers():
            yield
    finally:
        locale.setlocale(locale.LC_ALL, adopted)
        for number, action in actions.items():
            # By SIGUSR2 a flight recording stops threads to sample them; without any handler the
            # first sample would end the process.
            if number != signal.SIGUSR2 or _handler(action) != 0:
                _libc.sigaction(int(number), action, None)


@contextmanager
def _without_options_of_others() -> Iterator[None]:
    """Hides options for any Java of this user: one that does not go with ours would end the process."""
    hidden = {name: os.environ.pop(name) for name in OPTIONS_OF_OTHERS if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


@contextmanager
def _locale_of_file_names() -> Iterator[None]:
    """Has Java read file names as Python does, which takes them for UTF-8 under LC_ALL=C too.

    Java asks the locale alone, at its start, and then refuses every name that is not ASCII.
    """
    if sys.getfilesystemencoding() != "utf-8" or locale.nl_langinfo(locale.CODESET) == "UTF-8":
        yield
        return
    chosen = os.environ.get("LC_ALL")
    os.environ["LC_ALL"] = "C.UTF-8"
    try:
        yield
    finally:
        if chosen is None:
            del os.environ["LC_ALL"]
        else:
            os.environ["LC_ALL"] = chosen


@contextmanager
def _without_foreign_fault_handlers() -> Iterator[None]:
    """Hides handlers from Java that would take the fault of somebody else from `faulthandler`.

    A fault that is not its own Java hands to the handler that it found at its start; where it found none, it
    reports and aborts, and faulthandler, whenever it was enabled, sees SIGABRT. So it finds faulthandler's own,
    or none; or one with SA_SIGINFO, a crash reporter's, which passes faults on.
    """
    if faulthandler.is_enabled():
        yield
        return
    none = ctypes.create_string_buffer(_SIGACTION_BYTES)
    found = {number: _action(number) for number in _FAULT_SIGNALS}
    hidden = {
        number: action
        for number, action in found.items()
        if not _flags(action) & _SA_SIGINFO and not _is_pythons(action)
    }
    for number in hidden:
        _libc.sigaction(int(number), none, None)
    try:
        yield
    finally:
        for number, action in hidden.items():
            # Where Java did not start.
            if _handler(_action(number)) == 0:
                _libc.sigaction(int(number), action, None)


def _action(number: int) -> ctypes.Array[ctypes.c_char]:
    action = ctypes.create_string_buffer(_SIGACTION_BYTES)
    _libc.sigaction(int(number), None, action)
    return action


def _handler(action: ctypes.Array[ctypes.c_char]) -> int:
    return int.from_bytes(action.raw[:8], "little")


def _is_pythons(action: ctypes.Array[ctypes.c_char]) -> bool:
    """Whether it is the one function in C that stands for all handlers of ``signal.signal``."""
    return _handler(action) == _pythons_handler()


def _pythons_handler() -> int | None:
    """That function; None where it cannot be found out."""
    # SIGINT has it, as long as anything of Python's is to be called for it. What a shell has started in the background
    # ignores SIGINT.
    for number in (signal.SIGINT, *(signal.valid_signals() - set(_FAULT_SIGNALS))):
        if callable(signal.getsignal(number)):
            return _handler(_action(number))
    # Nobody misses one of these in between: nothing happens for them.
    unused = (n for n in (signal.SIGURG, signal.SIGWINCH, signal.SIGCHLD) if signal.getsignal(n) == signal.SIG_DFL)
    free = next(unused, None)
    if free is None or threading.current_thread() is not threading.main_thread():
        return None
    before = _action(free)
    signal.signal(free, lambda *_: None)
    found = _handler(_action(free))
    signal.signal(free, signal.SIG_DFL)
    _libc.sigaction(int(free), before, None)
    return found


def _flags(action: ctypes.Array[ctypes.c_char]) -> int:
    # Behind the handler and a mask of 1024 signals.
    return int.from_bytes(action.raw[136:140], "little")
