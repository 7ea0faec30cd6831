"""What `filename` can be."""

from __future__ import annotations

import errno
import os
from typing import Any


def absolute(filename: Any) -> list[str]:
    """The paths as text that the engine can open, in whatever form they were given.

    Raises
    ------
    TypeError, ValueError
        Naming what was given and what is allowed.
    FileNotFoundError
        A path is empty.
    """
    given = [filename] if isinstance(filename, (str, bytes, os.PathLike)) else filename
    try:
        items = list(given)
    except TypeError:
        raise TypeError(f"filename: expected a path or an iterable of paths, got {type(filename).__name__}") from None
    if not items:
        raise ValueError("filename: expected at least one path, got none")
    paths = []
    for item in items:
        path = os.fspath(item) if isinstance(item, (str, os.PathLike)) else item
        if not isinstance(path, str):
            raise TypeError(f"filename: expected str or os.PathLike, found {type(item).__name__}")
        paths.append(_absolute(path))
    return paths


def _absolute(path: str) -> str:
    if not path:
        raise FileNotFoundError(errno.ENOENT, "expected a path, got an empty one", path)
    if "\0" in path:
        raise ValueError(f"filename: {path!r} contains a NUL character")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ValueError(f"filename: {path!r} is not UTF-8, as names of files have to be here") from None
    if path.endswith("/") and os.path.isfile(path.rstrip("/")):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    # What lies above a folder that is a link only the system can tell, so those dots stay.
    return os.path.join(os.getcwd(), path) if ".." in path.split("/") else os.path.abspath(path)
