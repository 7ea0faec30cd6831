from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from lifecycle_support import eventually, live_exports, readers, write
from slow_files import CannotMountError, SlowFiles


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 tensors of 100 KiB."""
    return write(tmp_path_factory.mktemp("checkpoint") / "model.safetensors", 24)


@pytest.fixture
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test does that passes, no slab is held and no reader runs when it is over."""
    gc.collect()
    before = live_exports()
    failed = request.session.testsfailed
    yield
    if request.session.testsfailed > failed:
        return  # the report keeps the test's variables alive
    eventually(lambda: live_exports() <= before, "all slabs given back")
    eventually(lambda: not readers(), "no reader left")


@pytest.fixture
def slow_file(checkpoint: Path, tmp_path: Path) -> Iterator[SlowFiles]:
    """The checkpoint on a file system that does as it is told."""
    folder = tmp_path / "slow"
    folder.mkdir()
    try:
        files = SlowFiles(folder, checkpoint)
    except CannotMountError as e:
        pytest.skip(f"no FUSE file system can be mounted here: {e}")
    try:
        yield files
    finally:
        files.close()
