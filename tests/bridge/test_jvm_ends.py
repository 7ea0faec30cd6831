"""What becomes of a process with Java in it: forks, the end, and faults."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import time
from pathlib import Path

import pytest
from jvm_support import START, finish, run, start

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")

# ------------------------------------------------------------------------------------------- fork

# Python 3.12 and later warns of every fork beside threads.
FORKING = ("-W", "ignore::DeprecationWarning")


def test_a_child_forked_after_the_start_is_told_so_and_the_parent_goes_on() -> None:
    out = run(
        """
        import os
        from instanttensor import _jvm
        _jvm.after_fork_in_child(lambda: print("callback", flush=True))
        engine = _jvm.engine_class()
        parent = os.getpid()
        child = os.fork()
        if child == 0:
            try:
                print(_jvm.in_forked_child(), flush=True)
                _jvm.engine_class()
            except RuntimeError as e:
                text = str(e).replace(str(os.getpid()), "CHILD").replace(str(parent), "PARENT")
                print(text, flush=True)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), _jvm.in_forked_child())
        print(_jvm.engine_class() is engine)
    """,
        *FORKING,
    )
    assert out.splitlines() == [
        "callback",
        "True",
        "instanttensor cannot be used in process CHILD: it was forked from process PARENT after "
        "Java had started there, and Java's threads do not survive a fork. Start workers with "
        '"spawn" (multiprocessing.get_context("spawn")), or open the first checkpoint after the '
        "fork.",
        "0 False",
        "True",
    ]


def test_a_child_forked_before_the_start_starts_its_own() -> None:
    out = run("""
        import os
        from instanttensor import _jvm
        _jvm.after_fork_in_child(lambda: print("not called", flush=True))
        child = os.fork()
        engine = _jvm.engine_class()
        if child == 0:
            print(engine, flush=True)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """)
    assert out.splitlines() == ["class io.instanttensor.bridge.PythonBridge", "0"]


def test_a_child_forked_in_the_middle_of_the_start_never_hangs() -> None:
    out = run(
        """
        import os, signal, threading, time
        from instanttensor import _jvm
        starter = threading.Thread(target=_jvm.engine_class)
        starter.start()
        children = []
        while starter.is_alive() or len(children) < 3:
            child = os.fork()
            if child == 0:
                signal.alarm(60)
                try:
                    _jvm.engine_class()
                except RuntimeError as e:
                    if "was forked from process" not in str(e):
                        os._exit(1)
                os._exit(0)
            children.append(child)
            time.sleep(0.02)
        codes = {os.waitstatus_to_exitcode(os.waitpid(c, 0)[1]) for c in children}
        print(codes, _jvm.engine_class())
    """,
        *FORKING,
    )
    assert out == "{0} class io.instanttensor.bridge.PythonBridge"


def test_a_forked_child_ends_in_the_ordinary_way() -> None:
    out = run(
        """
        import multiprocessing
        from instanttensor import _jvm
        engine = _jvm.engine_class()
        def work():
            assert _jvm.in_forked_child()
        for _ in range(3):
            child = multiprocessing.get_context("fork").Process(target=work)
            child.start()
            child.join(60)
            print(child.exitcode)
    """,
        *FORKING,
    )
    assert out.split() == ["0", "0", "0"]


# ------------------------------------------------------------------------------------------- exit

SLEEPERS = """
import threading, time
from instanttensor import _jvm
_jvm.engine_class()
import jep
sleep = jep.findClass("java/lang/Thread").sleep
for _ in range(4):
    threading.Thread(target=sleep, args=(600_000,), daemon=True).start()
time.sleep(0.2)
"""
ENDS = {
    "by_itself": ("", 0),
    "sys_exit": ("import sys; sys.exit(3)", 3),
    "exception": ("raise SystemError('meant')", 1),
    "os_exit": ("import os; os._exit(4)", 4),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("flags", [(), ("-X", "dev")], ids=["plain", "dev"])
def test_daemon_threads_within_java_do_not_hold_up_the_end(end: str, flags: tuple[str, ...]) -> None:
    line, code = ENDS[end]
    began = time.monotonic()
    done = finish(start(SLEEPERS + line, *flags))
    assert done.returncode == code, done.stderr
    assert time.monotonic() - began < 60
    assert done.stderr.strip().splitlines()[-1:] == (["SystemError: meant"] if end == "exception" else [])


@needs_torch
@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("enabled", ["never", "before", "after"])
def test_torch_and_faulthandler_in_any_order_end_quietly(order: str, enabled: str) -> None:
    lines = {
        0: "import torch" if order == "before" else "",
        1: "import faulthandler; faulthandler.enable()" if enabled == "before" else "",
        2: START,
        3: "import torch" if order == "after" else "",
        4: "import faulthandler; faulthandler.enable()" if enabled == "after" else "",
        5: "assert (torch.ones(100, 100) @ torch.ones(100, 100)).sum() == 1e6",
        6: "_jvm.engine_class(); print('done')",
    }
    assert run("\n".join(lines.values())) == "done"


# --------------------------------------------------------------------------------- faulthandler

BUSY = """
import threading, time, jep
stream = jep.findClass("java/util/stream/LongStream")
system = jep.findClass("java/lang/System")
def work():
    while True:
        stream.range(0, 300_000_000).sum()
for _ in range(2):
    threading.Thread(target=work, daemon=True).start()
# Stops the compiled loops, which learn of it by SIGSEGV.
end = time.monotonic() + 1.5
while time.monotonic() < end:
    system.gc()
print("survived", flush=True)
import os
os._exit(0)
"""


@pytest.mark.parametrize(
    "script",
    [
        "import faulthandler; faulthandler.enable()\n" + START,
        START + "\nimport faulthandler; faulthandler.enable(); _jvm.engine_class()",
        "import faulthandler; faulthandler.enable()\n" + START + "\nfaulthandler.disable(); _jvm.engine_class()",
        START
        + "\nimport faulthandler; faulthandler.enable(); _jvm.engine_class()"
        + "\nfaulthandler.disable(); _jvm.engine_class()",
    ],
    ids=["before", "after", "before_then_off", "after_then_off"],
)
def test_faulthandler_stays_silent_while_java_works(script: str) -> None:
    assert run(script + BUSY) == "survived"


# As a native library's constructor does it; this one's handler ends the process.
ABORTING = """
import ctypes, signal
libc = ctypes.CDLL(None)
libc.signal.argtypes, libc.signal.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
libc.signal(int(signal.SIGSEGV), ctypes.cast(libc.abort, ctypes.c_void_p))
"""


@pytest.mark.parametrize(
    "script",
    [ABORTING + START, START + ABORTING + "_jvm.engine_class()", START + ABORTING * 2 + "_jvm.engine_class()"],
    ids=["before", "after", "twice_after"],
)
def test_a_librarys_own_handler_of_faults_does_not_end_java(script: str) -> None:
    assert run(script + BUSY) == "survived"


def test_a_handler_that_can_pass_faults_on_to_java_stays() -> None:
    # With SA_SIGINFO; this one hands each fault to the handler that it found, as crash reporters do.
    out = run(
        START
        + """
import ctypes, signal
from instanttensor import _jni
libc = ctypes.CDLL(None)
Handler = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
found = Handler(_jni._handler(_jni._action(signal.SIGSEGV)))
action = _jni._action(signal.SIGSEGV)
mine = Handler(lambda *fault: found(*fault))
ctypes.memmove(action, ctypes.byref(mine), 8)
libc.sigaction(int(signal.SIGSEGV), action, None)
_jvm.engine_class()
print(_jni._handler(_jni._action(signal.SIGSEGV)) == int.from_bytes(bytes(mine), "little"))
import os; os._exit(0)
"""
    )
    assert out == "True"


@pytest.mark.parametrize(
    "script",
    [
        "import faulthandler; faulthandler.enable()\n" + START,
        START + "\nimport faulthandler; faulthandler.enable(); _jvm.engine_class()",
        ABORTING + START + "\nimport faulthandler; faulthandler.enable(); _jvm.engine_class()",
    ],
    ids=["before", "after", "after_with_a_librarys_handler"],
)
def test_faulthandler_still_tells_of_a_real_fault(script: str, tmp_path: Path) -> None:
    crash = f"\nimport os, ctypes; os.chdir({str(tmp_path)!r})\ndef culprit(): ctypes.string_at(0)\n"
    done = finish(start(script + crash + "culprit()"))
    assert done.returncode < 0
    assert "Fatal Python error: " in done.stderr
    assert "in culprit" in done.stderr


def test_a_librarys_handler_is_back_where_java_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "lib/server").mkdir(parents=True)
    (tmp_path / "lib/server/libjvm.so").write_bytes(b"no library")
    (tmp_path / "release").write_text('JAVA_VERSION="25"\n')
    script = f"""
import os; os.environ["INSTANTTENSOR_JAVA_HOME"] = {str(tmp_path)!r}
from instanttensor import _jni, _jvm
try:
    _jvm.engine_class()
except RuntimeError:
    before = ctypes.cast(libc.abort, ctypes.c_void_p).value
    print(_jni._handler(_jni._action(signal.SIGSEGV)) == before)
"""
    assert run(ABORTING + script) == "True"


def test_a_library_that_takes_faults_over_is_loaded_before_java_and_changes_nothing(tmp_path: Path) -> None:
    source = tmp_path / "taker.c"
    source.write_text("""
        #include <signal.h>
        #include <stdlib.h>
        static void end(int number) { abort(); }
        __attribute__((constructor)) static void take(void) { signal(SIGSEGV, end); }
    """)
    package = tmp_path / "tvm_ffi"
    (package / "lib").mkdir(parents=True)
    (package / "__init__.py").write_text(
        "import ctypes, os; ctypes.CDLL(os.path.join(os.path.dirname(__file__), 'lib', 'libtvm_ffi.so'))"
    )
    library = package / "lib/libtvm_ffi.so"
    subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-o", library, source], check=True)
    script = f"""
import sys; sys.path.insert(0, {str(tmp_path)!r})
import signal
from instanttensor import _jni
import tvm_ffi
"""
    taken = "print(_jni._handler(_jni._action(signal.SIGSEGV)) != 0)"
    assert run(script + taken) == "True"
    # Nobody calls the engine between the import and what Java does then.
    before = "before = _jni._handler(_jni._action(signal.SIGSEGV))\n"
    after = "print(_jni._handler(_jni._action(signal.SIGSEGV)) == before)\n"
    start = START + "\n" + before
    assert run(script.replace("import tvm_ffi", start + "import tvm_ffi") + after + BUSY) == "True\nsurvived"
    library.write_bytes(b"no library")
    assert run(script.replace("import tvm_ffi", START) + BUSY) == "survived"


@pytest.mark.parametrize("number", ["SIGFPE", "SIGBUS", "SIGILL"])
@pytest.mark.parametrize("when", ["before", "after"])
# As a shell starts what it runs in the background.
@pytest.mark.parametrize("interrupts", ["default_int_handler", "SIG_IGN"])
def test_a_programs_own_handlers_in_python_stay(number: str, when: str, interrupts: str) -> None:
    theirs = f"import os, signal; signal.signal(signal.{number}, lambda *_: print('theirs'))\n"
    theirs += f"signal.signal(signal.SIGINT, signal.{interrupts})\n"
    # One of SIGSEGV, which Java cannot do without, has everything put back that is not theirs.
    put_back = "signal.signal(signal.SIGSEGV, lambda *_: None); _jvm.engine_class()\n"
    script = theirs + START + "\n" if when == "before" else START + "\n" + theirs
    assert run(script + put_back + f"os.kill(os.getpid(), signal.{number})" + BUSY) == "theirs\nsurvived"


def test_a_stand_in_for_a_package_is_no_package() -> None:
    assert run("import sys, types; sys.modules['tvm_ffi'] = types.ModuleType('tvm_ffi')\n" + START + BUSY) == "survived"
