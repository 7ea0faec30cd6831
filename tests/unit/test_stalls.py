"""Readers, slabs and staging buffers are all scarce at once: a load must go on all the same.

In processes of their own, so that a load that stands still fails its test and not the whole run.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from samples import run, stored, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "a.safetensors", {f"{i:03}": stored("U8", [100_000], i) for i in range(60)})


def test_more_readers_than_staging_buffers(path: Path) -> None:
    """Two buffers of 64 MiB may be pinned; the reader that waits for a slab must not be the one that has them."""
    script = """
        import sys
        from instanttensor import safe_open
        options = {"chunk_size": 64 << 20, "concurrency": 5, "buffer_size": 200_000}
        with safe_open(sys.argv[1], "np", backend=["URING", "MMAP"], **options) as f:
            print({len(list(f.tensors())) for _ in range(20)})
    """
    assert run(script, str(path), patience=30) == "{60}"


def test_a_load_beside_one_that_waits_for_its_caller(path: Path) -> None:
    script = """
        import sys, time
        from instanttensor import safe_open
        options = {"chunk_size": 64 << 20, "concurrency": 2, "buffer_size": 200_000}
        with safe_open(sys.argv[1], "np", backend=["URING", "MMAP"], **options) as f:
            iterator = f.tensors()
            next(iterator)
            time.sleep(0.3)  # until its readers have read what there is room for
            print(f.get_tensor("005").nbytes, 1 + len(list(iterator)))
    """
    assert run(script, str(path), patience=30) == "100000 60"
