from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from emulator import CannotMountError, Emulator
from emulator_support import FILE_BYTES


@pytest.fixture(scope="session")
def mountable(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips, with the reason, where no FUSE file system can be mounted."""
    try:
        Emulator(tmp_path_factory.mktemp("empty")).close()
    except CannotMountError as e:
        pytest.skip(f"no FUSE file system can be mounted here: {e}")


@pytest.fixture
def mount(mountable: None) -> Iterator[Callable[..., Emulator]]:
    """Shows a folder as options have it; what was mounted is unmounted behind the test."""
    with ExitStack() as mounted:

        def mount(folder: Path, **options: float | str) -> Emulator:
            return mounted.enter_context(Emulator(folder, **options))

        yield mount


@pytest.fixture(scope="module")
def content() -> bytes:
    return os.urandom(FILE_BYTES)


@pytest.fixture(scope="module")
def folder(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of the same bytes."""
    folder = tmp_path_factory.mktemp("folder")
    for name in ("a", "b"):
        (folder / name).write_bytes(content)
    return folder
