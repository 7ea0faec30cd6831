"""A file system of one file that a test can slow down, break and hang: a FUSE server in plain Python.

Run as a program it mounts itself, serves, and takes orders on standard input: a line of JSON each,
which is answered with "ok". `SlowFiles` is the other end.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import select
import shutil
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

NAME = "model.safetensors"
_ROOT, _FILE = 1, 2
_IN = struct.Struct("<IIQQIIIHH")
_OUT = struct.Struct("<IiQ")
_ATTR = struct.Struct("<6Q10I")
_READ_IN = struct.Struct("<QQII")
_LOOKUP, _FORGET, _GETATTR, _OPEN, _READ, _STATFS, _RELEASE = 1, 2, 3, 14, 15, 17, 18
_FLUSH, _INIT, _OPENDIR, _READDIR, _RELEASEDIR, _ACCESS, _INTERRUPT, _BATCH_FORGET = 25, 26, 27, 28, 29, 34, 36, 42
_ASYNC_READ = 1
_MNT_DETACH = 2
_WAIT_S = 60

_libc = ctypes.CDLL(None, use_errno=True)


# ------------------------------------------------------------------------------------ the server


class Server:
    """Answers the kernel. Reads are answered by a thread each, so that one may hang alone."""

    def __init__(self, device: int, content: bytes) -> None:
        self._device = device
        self._content = content
        self._changed = threading.Condition()
        # delay: seconds for each read; hang_from, fail_from: offsets of bytes that are never answered,
        # or with EIO; size: of the file from now on, or None.
        self.orders: dict[str, Any] = {"delay": 0.0, "hang_from": None, "fail_from": None, "size": None}
        self._hanging = 0

    def order(self, changes: dict[str, Any]) -> None:
        with self._changed:
            self.orders.update(changes)
            self._changed.notify_all()

    def await_hanging(self) -> None:
        """Returns once a read hangs."""
        with self._changed:
            self._changed.wait_for(lambda: self._hanging > 0)

    def serve(self) -> None:
        while True:
            try:
                request = os.read(self._device, 1 << 20)
            except OSError as e:
                if e.errno in (errno.EINTR, errno.ENOENT):
                    continue
                return  # unmounted
            _, opcode, unique, node, *_ = _IN.unpack_from(request)
            body = request[_IN.size :]
            if opcode == _READ:
                threading.Thread(target=self._read, args=(unique, body), daemon=True).start()
            elif opcode not in (_FORGET, _BATCH_FORGET, _INTERRUPT):
                answer = self._answer(opcode, node, body)
                if isinstance(answer, bytes):
                    self._reply(unique, answer, 0)
                else:
                    self._reply(unique, b"", answer)

    def _answer(self, opcode: int, node: int, body: bytes) -> bytes | int:
        if opcode == _INIT:
            return struct.pack("<4I2H2I2H8I", 7, 31, 1 << 17, _ASYNC_READ, 64, 48, 4096, 1, 0, 0, *[0] * 8)
        if opcode == _LOOKUP:
            if body.rstrip(b"\0") != NAME.encode():
                return errno.ENOENT
            return struct.pack("<4Q2I", _FILE, 0, 0, 0, 0, 0) + self._attributes(_FILE)
        if opcode == _GETATTR:
            return struct.pack("<QII", 0, 0, 0) + self._attributes(node)
        if opcode in (_OPEN, _OPENDIR):
            return struct.pack("<QII", 0, 0, 0)
        if opcode == _STATFS:
            return struct.pack("<5Q10I", 0, 0, 0, 1, 0, 4096, 255, 4096, *[0] * 7)
        if opcode in (_READDIR, _RELEASE, _RELEASEDIR, _FLUSH, _ACCESS):
            return b""
        return errno.ENOSYS

    def _attributes(self, node: int) -> bytes:
        is_root = node == _ROOT
        mode = stat.S_IFDIR | 0o755 if is_root else stat.S_IFREG | 0o644
        size = 0 if is_root else self._size()
        times = (1_700_000_000,) * 3
        return _ATTR.pack(
            node, size, (size + 511) // 512, *times, 0, 0, 0, mode, 1, os.getuid(), os.getgid(), 0, 4096, 0
        )

    def _size(self) -> int:
        size = self.orders["size"]
        return len(self._content) if size is None else size

    def _read(self, unique: int, body: bytes) -> None:
        _, offset, size, _ = _READ_IN.unpack_from(body)
        end = offset + size
        time.sleep(self.orders["delay"])
        with self._changed:
            if _reaches(end, self.orders["hang_from"]):
                # Once: several that woke each other in turns would never let anybody else go on.
                self._hanging += 1
                self._changed.notify_all()
                self._changed.wait_for(lambda: not _reaches(end, self.orders["hang_from"]))
                self._hanging -= 1
        if _reaches(end, self.orders["fail_from"]):
            self._reply(unique, b"", errno.EIO)
        else:
            self._reply(unique, self._content[offset : min(end, self._size())], 0)

    def _reply(self, unique: int, payload: bytes, error: int) -> None:
        try:
            os.write(self._device, _OUT.pack(_OUT.size + len(payload), -error, unique) + payload)
        except OSError:
            pass  # the reader is gone, or the mount


def _reaches(end: int, offset: int | None) -> bool:
    return offset is not None and end > offset


def _mount(folder: str) -> int:
    options = f"rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
    helper = shutil.which("fusermount3") or shutil.which("fusermount")
    if os.getuid() != 0 and helper:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            subprocess.run(
                [helper, "-o", "fsname=slow_files", "--", folder],
                env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
                pass_fds=[theirs.fileno()],
                stderr=subprocess.PIPE,
                check=True,
            )
            return socket.recv_fds(ours, 1, 1)[1][0]
    device = os.open("/dev/fuse", os.O_RDWR)
    result = _libc.mount(b"slow_files", folder.encode(), b"fuse", 6, f"fd={device},{options}".encode())
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), folder)
    return device


def main(folder: str, content: str) -> None:
    try:
        device = _mount(folder)
    except (OSError, subprocess.CalledProcessError) as e:
        print(f"cannot: {e}", flush=True)
        return
    server = Server(device, Path(content).read_bytes())
    threading.Thread(target=server.serve, daemon=True).start()
    print("ok", flush=True)
    for line in sys.stdin:
        changes = json.loads(line)
        if changes.pop("await_hanging", False):
            server.await_hanging()
        server.order(changes)
        print("ok", flush=True)


# -------------------------------------------------------------------------------- the other end


class CannotMountError(Exception):
    """This machine lets us mount nothing; why is in the text."""


class SlowFiles:
    """Serves one file, under a folder of its own; `path` is where it lies."""

    def __init__(self, folder: Path, content: Path) -> None:
        self._folder = folder
        self.path = folder / NAME
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(folder), str(content)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        answer = self._answer()
        if answer != "ok":
            self._process.wait()
            raise CannotMountError(answer)

    def order(self, **changes: Any) -> None:
        """Changes how reads are answered from now on; see `Server.orders`."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(changes) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        assert answer == "ok", answer

    def hang(self, offset: int = 0) -> None:
        self.order(hang_from=offset)

    def answer_again(self) -> None:
        self.order(hang_from=None, fail_from=None, size=None, delay=0.0)

    def await_hanging(self) -> None:
        """Returns once a read hangs."""
        self.order(await_hanging=True)

    def _answer(self) -> str:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], _WAIT_S)
        return self._process.stdout.readline().strip() if ready else f"no answer in {_WAIT_S} s"

    def close(self) -> None:
        # The server's end aborts every read that still waits for it.
        self._process.kill()
        self._process.communicate()
        if _libc.umount2(str(self._folder).encode(), _MNT_DETACH) != 0:
            helper = shutil.which("fusermount3") or shutil.which("fusermount")
            if helper:
                subprocess.run([helper, "-u", "-z", str(self._folder)], stderr=subprocess.DEVNULL, check=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
