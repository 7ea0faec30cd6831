"""Java's start inside a Python process: what it leaves alone there, and whose machine it uses."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

import pytest
from instanttensor import _find_java, _jvm
from jvm_support import START, finish, refusal, run, start

# ------------------------------------------------------------------------------------- starting


def test_the_first_call_starts_java_and_every_call_answers_the_same_class() -> None:
    out = run("""
        from instanttensor import _jvm
        first = _jvm.engine_class()
        print(first, _jvm.engine_class() is first)
    """)
    assert out == "class io.instanttensor.bridge.PythonBridge True"


def test_importing_the_module_starts_nothing_and_loads_nothing_heavy() -> None:
    # By its file: what the package's own __init__ imports is another matter.
    out = run(f"""
        import runpy, sys
        runpy.run_path({_jvm.__file__!r})
        heavy = {{"ctypes", "torch", "numpy", "jep", "_jep", "subprocess", "importlib.metadata"}}
        print(sorted(heavy & set(sys.modules)))
    """)
    assert out == "[]"


def test_sixteen_threads_at_once_start_one_machine() -> None:
    out = run("""
        import threading
        from instanttensor import _jvm
        found, gate = [], threading.Barrier(16)
        def call():
            gate.wait()
            found.append(_jvm.engine_class())
        threads = [threading.Thread(target=call) for _ in range(16)]
        for t in threads: t.start()
        for t in threads: t.join()
        print(len(found), len(set(map(id, found))))
    """)
    assert out == "16 1"


def test_eight_processes_at_once_each_start_their_own() -> None:
    processes = [start(START + "; print('up')") for _ in range(8)]
    results = [finish(process) for process in processes]
    assert [(r.returncode, r.stdout, r.stderr) for r in results] == [(0, "up\n", "")] * 8


def test_a_thread_that_starts_java_may_end_before_others_use_it() -> None:
    out = run("""
        import threading
        from instanttensor import _jvm
        starter = threading.Thread(target=_jvm.engine_class)
        starter.start()
        starter.join()
        import jep
        system = jep.findClass("java/lang/System")
        system.gc()
        print(_jvm.engine_class(), system.getProperty("java.specification.version") >= "25")
    """)
    assert out == "class io.instanttensor.bridge.PythonBridge True"


@pytest.mark.parametrize("flags", [("-X", "dev"), ("-W", "error"), ("-I",), ("-X", "importtime")])
def test_interpreter_flags_do_not_matter(flags: tuple[str, ...], tmp_path: Path) -> None:
    # -I ignores PYTHONPATH, by which the package may have been found.
    path = str(Path(_jvm.__file__).parent.parent)
    code = f"import sys; sys.path.insert(0, {path!r}); {START}; print('up')"
    done = finish(start(code, *flags))
    assert (done.returncode, done.stdout) == (0, "up\n"), done.stderr
    if "importtime" not in flags:
        assert done.stderr == ""


# ----------------------------------------------------------------------- the process stays as it was

COMPARE = """
    import ctypes, locale, os, resource, signal, sys, threading
    libc = ctypes.CDLL(None)

    def dispositions():
        found = {}
        for number in signal.valid_signals():
            action = ctypes.create_string_buffer(256)
            libc.sigaction(int(number), None, action)
            # Handler, the 64 signals of the mask, flags; between them the C library leaves garbage.
            found[int(number)] = action.raw[:16] + action.raw[136:140]
        return found

    def state():
        umask = os.umask(0)
        os.umask(umask)
        return {
            "prefix": (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.executable),
            "argv": (list(sys.argv), list(sys.orig_argv)),
            "flags": (list(sys.warnoptions), dict(sys._xoptions), tuple(sys.flags)),
            "imports": (list(sys.path), list(sys.meta_path), list(sys.path_hooks)),
            "hooks": (sys.excepthook, sys.displayhook, threading.excepthook, sys.stdout, sys.stderr),
            "limits": (sys.getrecursionlimit(), sys.getswitchinterval(),
                       [resource.getrlimit(n) for n in range(16)]),
            "warnings": list(__import__("warnings").filters),
            "handlers": {n: signal.getsignal(n) for n in signal.valid_signals()},
            "mask": signal.pthread_sigmask(signal.SIG_BLOCK, []),
            "environment": (dict(os.environ), ctypes.string_at(libc.getenv(b"PATH"))),
            "cwd": os.getcwd(),
            "umask": umask,
            "locale": locale.setlocale(locale.LC_ALL),
            "rounding": libc.fegetround(),
            "subnormals": sys.float_info.min / 2,
            "threads": [t.name for t in threading.enumerate()],
        }

    libc.getenv.restype = ctypes.c_void_p
    libc.fesetround(0x400)  # upward
    signal.signal(signal.SIGUSR2, lambda *_: None)
    before, actions = state(), dispositions()
    from instanttensor import _jvm
    _jvm.engine_class()
    after, taken = state(), dispositions()
    print({key: (before[key], after[key]) for key in before if before[key] != after[key]})
    print([signal.Signals(n).name for n in sorted(taken) if taken[n] != actions[n]])
"""


# C.UTF-8 is one that Java would adopt for numbers too, where Python has left those at "C".
@pytest.mark.parametrize("language", ["C.UTF-8", "C"])
def test_a_start_changes_nothing_but_the_handlers_of_faults(language: str) -> None:
    out = run(COMPARE, LC_ALL=language)
    assert out.splitlines() == ["{}", "['SIGILL', 'SIGBUS', 'SIGFPE', 'SIGSEGV']"]


def test_the_main_thread_keeps_its_whole_stack() -> None:
    """By itself, Java closes the stack at 1 MiB, and a deep recursion in C ends the process there."""
    out = run("""
        from instanttensor import _jvm
        _jvm.engine_class()
        import jep
        jep.findClass("java/lang/System").nanoTime()
        rows = [line.split() for line in open("/proc/self/maps")]
        areas = [(*(int(x, 16) for x in r[0].split("-")), r[1], r[-1]) for r in rows]
        low, top = next((a[0], a[1]) for a in areas if a[3] == "[stack]")
        closed = [a for a in areas if a[2].startswith("---") and top - (8 << 20) < a[1] <= top]
        print(closed)
    """)
    assert out == "[]"


@pytest.mark.parametrize("language", ["C.UTF-8", "C", "POSIX"])
def test_java_takes_file_names_as_python_does_in_any_locale(language: str, tmp_path: Path) -> None:
    (tmp_path / "caf\u00e9").touch()
    out = run(
        f"""
        from instanttensor import _jvm
        _jvm.engine_class()
        import jep
        path = jep.findClass("java/nio/file/Path").of({str(tmp_path)!r} + "/caf\\u00e9")
        print(jep.findClass("java/nio/file/Files").exists(path))
        """,
        LC_ALL=language,
    )
    assert out == "True"


def test_keyboard_interrupt_still_reaches_python() -> None:
    out = run("""
        import os, signal
        from instanttensor import _jvm
        _jvm.engine_class()
        try:
            os.kill(os.getpid(), signal.SIGINT)
            print("missed")
        except KeyboardInterrupt:
            print("caught")
    """)
    assert out == "caught"


@pytest.mark.parametrize("after_ms", [5, 20, 40, 60, 80, 110, 150])
def test_ctrl_c_while_java_starts_comes_once_it_runs_and_java_can_be_used(after_ms: int) -> None:
    out = run(f"""
        import os, signal, threading, time
        from instanttensor import _find_java, _jni, _jvm, _jvm_options
        kill = threading.Timer({after_ms} / 1000, os.kill, (os.getpid(), signal.SIGINT))
        try:
            kill.start()
            _jvm.engine_class()
            time.sleep(5)
            print("missed")
        except KeyboardInterrupt:
            pass
        print(_jvm.engine_class().liveExports(), signal.getsignal(signal.SIGINT) is signal.default_int_handler)
    """)
    assert out == "0 True"


@pytest.mark.parametrize("after_ms", [20, 60, 110])
def test_any_handler_that_raises_while_java_starts_is_called_once_it_runs(after_ms: int) -> None:
    out = run(f"""
        import signal, time
        from instanttensor import _find_java, _jni, _jvm, _jvm_options
        calls = []
        def give_up(number, frame):
            calls.append(number)
            raise TimeoutError
        signal.signal(signal.SIGALRM, give_up)
        signal.siginterrupt(signal.SIGALRM, False)
        before = _jni._flags(_jni._action(signal.SIGALRM))
        signal.setitimer(signal.ITIMER_REAL, {after_ms} / 1000)
        try:
            _jvm.engine_class()
            time.sleep(5)
            print("missed")
        except TimeoutError:
            pass
        same = signal.getsignal(signal.SIGALRM) is give_up, _jni._flags(_jni._action(signal.SIGALRM)) == before
        print(_jvm.engine_class().liveExports(), len(calls), same)
    """)
    assert out == "0 1 (True, True)"


def test_signals_that_wait_are_all_served_and_the_last_error_counts() -> None:
    out = run("""
        import os, signal
        from instanttensor import _jni
        def handler(number, frame):
            print(signal.Signals(number).name)
            raise {signal.SIGTERM: SystemExit, signal.SIGUSR1: ValueError}[number]
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, handler)
        try:
            with _jni.signals_later():
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGUSR1)
                print("still here")
        except ValueError:
            print("the last")
    """)
    assert out.split() == ["still", "here", "SIGTERM", "SIGUSR1", "the", "last"]


def test_child_forked_while_java_starts_can_be_interrupted() -> None:
    out = run("""
        import os, signal, sys, threading, time
        from instanttensor import _find_java, _jni, _jvm, _jvm_options
        def fork():
            child = os.fork()
            if child == 0:
                try:
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(5)
                except KeyboardInterrupt:
                    os._exit(7)
                os._exit(1)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        forking = threading.Timer(0.03, fork)
        forking.start()
        _jvm.engine_class()
        forking.join()
    """)
    assert out == "7"


def test_java_started_by_another_thread_leaves_ctrl_c_alone() -> None:
    out = run("""
        import signal, threading
        from instanttensor import _jvm
        thread = threading.Thread(target=_jvm.engine_class)
        thread.start()
        thread.join()
        print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
    """)
    assert out == "True"


# ---------------------------------------------------------------------------------- other machines


def test_a_machine_of_somebody_elses_without_jep_is_refused() -> None:
    line = refusal("""
        from instanttensor import _find_java, _jni, _jvm
        home, _ = _find_java.java_home()
        _jni.Jvm(_find_java.libjvm(home), ["-Xmx64m"])
        _jvm.engine_class()
    """)
    assert line == (
        "RuntimeError: a Java virtual machine without jep is running in this process already "
        "(started by JPype or PyJNIus, for example), and a process can have only one: use "
        "instanttensor in a process of its own"
    )


def embedded(script: str, tmp_path: Path, *class_path: Path, **environment: str) -> str:
    """What a script prints in a Python that a Java program embeds through jep."""
    libpython = Path(sysconfig.get_config_var("LIBDIR") or "", sysconfig.get_config_var("INSTSONAME"))
    if ".so" not in libpython.name or not libpython.is_file():
        pytest.skip("this Python has no shared library, so that no program can embed it")
    file = tmp_path / "script.py"
    file.write_text(textwrap.dedent(script))
    jep = _find_java.jep_dir()
    java, _ = _find_java.java_home()
    jars = [jep / f"jep-{_find_java.JEP_VERSION}.jar", *class_path]
    done = subprocess.run(
        [
            str(java / "bin" / "java"),
            "--enable-native-access=ALL-UNNAMED",
            f"-Djava.library.path={jep}",
            f"-Djava.class.path={os.pathsep.join(map(str, jars))}",
            "jep.Run",
            str(file),
        ],
        env={
            **os.environ,
            # The jep of a wheelhouse is not linked to a libpython, since the host brings one.
            "LD_PRELOAD": str(libpython),
            "PYTHONHOME": sys.base_prefix,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout.strip()


IN_HOST = """
    import threading
    from instanttensor import _jvm
    found = [_jvm.engine_class()]
    thread = threading.Thread(target=lambda: found.append(_jvm.engine_class()))
    thread.start()
    thread.join()
    print(found[0], found[1] is found[0])
"""


def test_in_a_program_that_embeds_python_its_own_machine_is_used(tmp_path: Path) -> None:
    jar = _find_java.engine_jar()
    # The engine's folder is not needed where the program has the engine on its class path.
    out = embedded(IN_HOST, tmp_path, jar, INSTANTTENSOR_ENGINE_DIR=str(tmp_path / "none"))
    assert out == "class io.instanttensor.bridge.PythonBridge True"


def test_a_program_without_the_engine_gets_it_from_our_jar(tmp_path: Path) -> None:
    out = embedded(IN_HOST, tmp_path)
    assert out == "class io.instanttensor.bridge.PythonBridge True"


def test_a_program_of_an_older_java_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class System:
        @staticmethod
        def getProperty(name: str) -> str:  # noqa: N802
            return "21.0.4"

    monkeypatch.setattr(_jvm, "_find_class", lambda name: System)
    with pytest.raises(RuntimeError) as refused:
        _jvm._class_in_host_jvm()
    assert str(refused.value) == (
        "instanttensor needs Java 25, and the program that embeds this Python runs Java 21.0.4"
    )
