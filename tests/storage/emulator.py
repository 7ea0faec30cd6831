"""A storage that is slow, broken or silent on demand: `slow_fs`, compiled, started and talked to.

    with Emulator(folder, latency_ms=10, bandwidth=200e6) as mounted:
        read(mounted.path / "model.safetensors")
        mounted.set(file_bytes=4096)
        mounted.counts().in_flight_most

README.md beside it says what the options are.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import json
import os
import select
import shlex
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

SOURCES = tuple(Path(__file__).parent / name for name in ("slow_fs.c", "requests.c", "pace.c"))
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread")
PATIENCE_S = 60
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


class CannotMountError(Exception):
    """The emulator cannot be compiled or mounted here; why is in the text."""


@dataclass(frozen=True)
class Counts:
    """What the storage has seen since it was mounted, or since the last `reset`.

    Attributes
    ----------
    seconds : float
        Since then.
    requests, bytes : int
        Reads that arrived; bytes that were sent.
    direct_requests : int
        Those of them that come from descriptors with O_DIRECT.
    largest_bytes : int
        The most that one request asked for.
    in_flight, in_flight_most : int
        Reads that have arrived and are not answered: now, and at any moment.
    in_flight_mean : float
        The same over time.
    stalled : int
        Of those in flight now, the ones that a stall holds.
    errors, shorts : int
        Reads answered with EIO; replies that were made shorter.
    metadata : int
        Requests that are no reads.
    opens, direct_opens : int
        Files opened; those of them with O_DIRECT.
    """

    seconds: float
    requests: int
    bytes: int
    direct_requests: int
    largest_bytes: int
    in_flight: int
    in_flight_most: int
    in_flight_mean: float
    stalled: int
    errors: int
    shorts: int
    metadata: int
    opens: int
    direct_opens: int


def _compile(folder: Path) -> Path:
    compiler = shlex.split(os.environ.get("CC") or "cc")
    program = folder / "slow_fs"
    command = [*compiler, *FLAGS, "-o", str(program), *map(str, SOURCES), "-lm"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as e:
        raise CannotMountError(f"no C compiler: {e}") from None
    if done.returncode != 0:
        raise RuntimeError(f"{shlex.join(command)}\n{done.stderr}")
    return program


@functools.cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="slow-fs-")


@functools.cache
def program() -> Path:
    """The emulator's program, compiled by the first who asks and removed when this process ends.

    Raises
    ------
    CannotMountError
        There is no compiler.
    RuntimeError
        It does not compile; with what the compiler said.
    """
    return _compile(Path(_scratch().name))


def _words(options: dict[str, float | str]) -> list[str]:
    words = [f"{name}={float(value) if isinstance(value, bool) else value}" for name, value in options.items()]
    for word in words:
        if word.split() != [word]:
            raise ValueError(f"{word!r}: orders are lines of words, so it can have no white space")
    return words


class Emulator:
    """A folder, shown read-only under `path`, as the options say.

    It ends with the thread that made it, at the latest: its process asks for that.

    Parameters
    ----------
    folder : Path
        What is shown. Better in memory or in the page cache: the emulator reads it.
    **options : float or str
        See README.md; those that are not given slow nothing down.

    Raises
    ------
    CannotMountError
        Nothing can be mounted, or compiled, on this machine; or there is no such folder.
    ValueError
        What was given is no option, or has no such value.
    """

    def __init__(self, folder: Path | str, **options: float | str) -> None:
        words = _words(options)
        if os.geteuid() != 0:
            raise CannotMountError("mounting takes root")
        command = [str(program()), os.fspath(folder)]
        self.path = Path(tempfile.mkdtemp(prefix="slow-storage-"))
        self._process = subprocess.Popen(
            [*command, str(self.path), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        try:
            self._raise_unless_ok(self._answer())
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _raise_unless_ok(said: str) -> None:
        if said.startswith("error: "):
            raise ValueError(said.removeprefix("error: "))
        if said != "ok":
            raise CannotMountError(said.removeprefix("cannot: "))

    @property
    def pid(self) -> int:
        """The emulator's process."""
        return self._process.pid

    def _answer(self) -> str:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE_S)
        if not ready:
            raise RuntimeError(f"the emulator gave no answer in {PATIENCE_S} s")
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the emulator ended")
        return line.rstrip()

    def _order(self, *words: str) -> str:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(" ".join(words) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise RuntimeError("the emulator ended") from None
        return self._answer()

    def set(self, **options: float | str) -> None:
        """Changes options from the next request on; a size, and errors, for all that is not answered yet.

        Raises
        ------
        ValueError
            One is no option, has no such value, or is fixed once mounted. Then nothing was changed.
        """
        self._raise_unless_ok(self._order("set", *_words(options)))

    def release(self) -> None:
        """Answers what a stall holds; none holds anything any more."""
        self.set(stall_bytes=0)

    def counts(self) -> Counts:
        """What there was since the mount or the last `reset`."""
        return Counts(**json.loads(self._order("counts")))

    def reset(self) -> None:
        """Starts all counts anew; `in_flight_most` at what is in flight now."""
        self._raise_unless_ok(self._order("reset"))

    def close(self) -> None:
        """Unmounts; what still waits for an answer gets an error. A second call does nothing."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.communicate()
        # Where it could not do so itself. EINVAL: it could; ENOENT: and it was removed.
        if _libc.umount2(os.fsencode(self.path), _MNT_DETACH) != 0:
            code = ctypes.get_errno()
            if code not in (errno.EINVAL, errno.ENOENT, errno.EPERM):
                raise OSError(code, os.strerror(code), str(self.path))
        if self.path.exists():
            self.path.rmdir()

    def __enter__(self) -> Emulator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
