"""Checkpoints on their storage: made where they are not there yet, removed where room is needed."""

import fcntl
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import checkpoints
import page_cache
from machine import last_line, memory_available

# Left to everybody else.
MEMORY_FLOOR_BYTES = 2 << 30
STAMP = ".instanttensor-bench"


def _recipe():
    """Another where checkpoints are made in another way."""
    return f"{zlib.crc32(Path(checkpoints.__file__).read_bytes()):08x}"


class Storage:
    """One folder for checkpoints.

    Parameters
    ----------
    folder : Path
    in_memory : bool
        Whether what lies there takes memory (a tmpfs).
    """

    def __init__(self, folder, in_memory):
        # Of its own, within what was named: everything in here can go.
        self.folder = Path(folder) / "instanttensor-bench"
        self._named_was_there = Path(folder).exists()
        self._in_memory = in_memory
        self._claimed = None
        self.made = []

    def claim(self):
        """Keeps other runs out until `leave`: each would remove what the other measures. Ends the process where another
        one is at work there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._claimed = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(self._claimed, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"another run is measuring in {self.folder}: wait for it, or name another folder")

    def leave(self):
        """Lets others in."""
        os.close(self._claimed)

    def _free(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        return min(free, memory_available() - MEMORY_FLOOR_BYTES) if self._in_memory else free

    def _there(self):
        """Bytes of the checkpoints that are there, by folder."""
        found = {}
        for stamp in self.folder.glob(f"*/{STAMP}"):
            found[stamp.parent] = sum(file.stat().st_blocks * 512 for file in stamp.parent.iterdir())
        return found

    def is_there(self, checkpoint):
        """Whether it is, and as it would be made now."""
        stamp = self.folder / checkpoint.folder / STAMP
        return stamp.exists() and stamp.read_text() == _recipe()

    def too_small(self, wanted, also_bytes=0):
        """Why checkpoints do not fit, even with all others removed; None if they do.

        `also_bytes` is what loading takes of the same memory.
        """
        there = self._there()
        names = {checkpoint.folder: checkpoint.needed_bytes for checkpoint in wanted}
        needed = sum(names.values()) + also_bytes
        room = self._free() + sum(there.values())
        if needed <= room:
            return None
        return f"{self.folder} has room for {room / 1e9:.1f} GB, {needed / 1e9:.1f} are needed"

    def make_all(self, wanted, also_bytes=0):
        """Makes checkpoints that are to be there together; others go where there is no room.

        Raises
        ------
        OSError
            They cannot be written.
        """
        keep = {self.folder / checkpoint.folder for checkpoint in wanted}
        missing = {c.folder: c for c in wanted if not self.is_there(c)}
        needed = sum(c.needed_bytes for c in missing.values()) + also_bytes
        for folder in self._there():
            if self._free() < needed and folder not in keep:
                print(f"removing {folder}", file=sys.stderr)
                self._remove(folder)
        for name, checkpoint in missing.items():
            self._make(self.folder / name, checkpoint)

    def _make(self, folder, checkpoint):
        # What an earlier run did not finish.
        shutil.rmtree(folder, ignore_errors=True)
        print(f"making {folder}", file=sys.stderr)
        self.made.append(folder)
        try:
            # In a process of its own: it starts more, and they should not have to import what this one has.
            words = [checkpoints.__file__, checkpoint.kind, str(folder), *map(str, checkpoint.numbers)]
            done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
            if done.returncode:
                raise OSError(last_line(done.stderr, f"exit status {done.returncode}"))
            print(done.stdout.strip(), file=sys.stderr)
            if checkpoint.kind not in checkpoints.HOLLOW:
                # What was just written reads slower the first time.
                page_cache.read_all(folder.glob("*.safetensors"))
            (folder / STAMP).write_text(_recipe())
        except OSError:
            self._remove(folder)
            raise

    def _remove(self, folder):
        shutil.rmtree(folder, ignore_errors=True)
        self.made = [one for one in self.made if one != folder]

    def remove_all(self):
        """Removes all checkpoints that are here, those of earlier runs too."""
        for folder in {*self.made, *self._there()}:
            self._remove(folder)
        named = self.folder.parent
        for folder in (self.folder,) if self._named_was_there else (self.folder, named):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
