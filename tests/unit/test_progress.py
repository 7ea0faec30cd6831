"""progress: called with bytes, up to the total, in the thread that loads."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from instanttensor import safe_open
from samples import stored, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "a.safetensors", {f"{i:03}": stored("U8", [50_000], i) for i in range(100)})


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("buffer_size", [None, 100_000])
def test_it_rises_to_the_total_in_every_pass(path: Path, copy: bool, buffer_size: int | None) -> None:
    calls: list[tuple[int, int]] = []
    threads = set()

    def progress(done: int, total: int) -> None:
        calls.append((done, total))
        threads.add(threading.current_thread())

    with safe_open(path, "pt", progress=progress, copy=copy, buffer_size=buffer_size) as f:
        for _ in range(2):
            calls.clear()
            assert len(list(f.tensors())) == 100
            dones = [done for done, _ in calls]
            assert dones == sorted(set(dones))
            assert {total for _, total in calls} == {5_000_000}
            assert calls[-1] == (5_000_000, 5_000_000)
    assert threads == {threading.current_thread()}


def test_it_counts_only_what_the_filter_selects(path: Path) -> None:
    calls: list[tuple[int, int]] = []
    with safe_open(path, "pt", progress=lambda *c: calls.append(c), tensor_filter=["00?"]) as f:
        list(f.tensors())
    assert calls[-1] == (500_000, 500_000)


def test_nothing_to_load_ends_at_zero(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    path = write(tmp_path / "a.safetensors", {"e": stored("F32", [0])})
    with safe_open(path, "pt", progress=lambda *c: calls.append(c)) as f:
        assert len(list(f.tensors())) == 1
    assert calls == [(0, 0)]


def test_leaving_early_does_not_report_the_end(path: Path) -> None:
    calls: list[tuple[int, int]] = []
    with safe_open(path, "pt", progress=lambda *c: calls.append(c), buffer_size=100_000, concurrency=1) as f:
        for _ in f.tensors():
            break
    assert calls
    assert calls[-1][0] < 5_000_000


@pytest.mark.usefixtures("nothing_stays")
def test_an_error_of_the_callable_is_the_callers(path: Path) -> None:
    def progress(done: int, total: int) -> None:
        raise ZeroDivisionError("mine")

    with safe_open(path, "pt", progress=progress) as f, pytest.raises(ZeroDivisionError, match="^mine$"):
        list(f.tensors())


def test_true_is_a_bar_on_standard_error(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with safe_open(path, "pt", progress=True) as f:
        list(f.tensors())
    out, err = capfd.readouterr()
    assert out == ""
    last = err.strip().split("\r")[-1]
    assert last.startswith("Loading tensors: 100%|")
    assert "5.00M/5.00M" in last


def test_false_is_silence(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with safe_open(path, "pt") as f:
        list(f.tensors())
    assert capfd.readouterr() == ("", "")
