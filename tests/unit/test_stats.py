"""stats(), its log, and the flight recorder's events."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from instanttensor import safe_open
from samples import run, stored, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "a.safetensors", {f"{i}": stored("F32", [1000], i) for i in range(10)}, padding=5)


def test_before_any_load_all_is_zero(path: Path) -> None:
    with safe_open(path, "pt") as f:
        stats = f.stats()
    assert stats.pop("open_seconds") > 0
    (file,) = stats.pop("files")
    assert file["file"] == str(path)
    assert stats == {
        "device": "cpu",
        "loads": 0,
        "bytes": 0,
        "read_bytes": 0,
        "seconds": 0.0,
        "plan_seconds": 0.0,
        "gigabytes_per_second": 0.0,
        "waits": {"read": 0.0, "staging": 0.0, "room": 0.0, "copy": 0.0, "caller": 0.0},
        "slabs": 0,
        "buffer_bytes": 0,
        "peak_buffer_bytes": 0,
        "pinned_bytes": 0,
        "reads_in_flight": 0,
    }


def test_it_adds_up_over_all_loads(path: Path) -> None:
    with safe_open(path, "pt", backend="MMAP") as f:
        list(f.tensors())
        once = f.stats()
        assert (once["loads"], once["bytes"], once["read_bytes"]) == (1, 40_000, 40_000)
        assert once["seconds"] > 0
        assert once["plan_seconds"] > 0
        assert once["gigabytes_per_second"] == pytest.approx(once["bytes"] / once["seconds"] / 1e9)
        assert once["slabs"] >= 1
        assert 40_000 <= once["peak_buffer_bytes"] <= once["buffer_bytes"]
        list(f.tensors())
        f.get_tensor("0")
        f.get_slice("1")[:10]
        f.get_tensors(["2", "3"])
        more = f.stats()
    assert (more["loads"], more["bytes"]) == (5, 80_000 + 4_000 + 40 + 8_000)
    assert more["seconds"] > once["seconds"]
    assert more["plan_seconds"] > once["plan_seconds"]
    assert all(more["waits"][stage] >= once["waits"][stage] for stage in once["waits"])


def test_every_number_that_the_docstring_names_is_there(path: Path) -> None:
    named = set(re.findall(r"``(\w+)``", safe_open.stats.__doc__ or ""))
    with safe_open(path, "pt") as f:
        list(f.tensors())
        stats = f.stats()
    there = set(stats) | set(stats["waits"]) | set(stats["files"][0])
    assert named <= there
    assert there - named == {"device", "loads"}


def test_a_load_that_was_left_counts_what_it_read(path: Path) -> None:
    with safe_open(path, "pt") as f:
        for _ in f.tensors():
            break
        stats = f.stats()
    assert stats["loads"] == 1
    assert 4_000 <= stats["bytes"] <= 40_000


def test_numbers_are_pythons_own(path: Path) -> None:
    import json

    with safe_open(path, "pt") as f:
        list(f.tensors())
        stats = f.stats()
    assert json.loads(json.dumps(stats)) == stats


def test_every_file_is_told_of(tmp_path: Path) -> None:
    paths = [str(write(tmp_path / f"{name}.safetensors", {name: stored("U8", [1])})) for name in "ab"]
    with safe_open(tmp_path, "pt") as f:
        assert [file["file"] for file in f.stats()["files"]] == paths


@pytest.mark.parametrize(("value", "logs"), [("1", True), ("yes", True), ("0", False), ("", False), (None, False)])
def test_the_variable_asks_for_a_log_of_each_load(
    value: str | None, logs: bool, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if value is not None:
        monkeypatch.setenv("INSTANTTENSOR_DEBUG", value)
    with caplog.at_level(logging.DEBUG, "instanttensor"), safe_open(path, "pt") as f:
        list(f.tensors())
        stats = f.stats()
    assert [record.getMessage() for record in caplog.records] == ([f"loaded: {stats}"] if logs else [])


def test_a_program_without_logging_gets_it_on_standard_error(path: Path) -> None:
    script = """
        import contextlib, io, sys
        from instanttensor import safe_open
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), safe_open(sys.argv[1], "np") as f:
            list(f.tensors())
            list(f.tensors())
        print(len(errors.getvalue().splitlines()), errors.getvalue().split(" ")[0])
    """
    assert run(script, str(path), INSTANTTENSOR_DEBUG="1") == "2 loaded:"
    assert run(script, str(path)) == "0"


def test_a_flight_recording_holds_an_event_for_every_read(path: Path, tmp_path: Path) -> None:
    out = run(
        """
        import sys
        from instanttensor import safe_open
        path, dump = sys.argv[1:]
        with safe_open(path, "np", chunk_size=4096, backend="MMAP") as f:
            list(f.tensors())
        import jep
        # Nobody shuts Java down, so that a recording has to be dumped on purpose.
        to = jep.findClass("java/nio/file/Path").of(dump)
        for recording in jep.findClass("jdk/jfr/FlightRecorder").getFlightRecorder().getRecordings():
            recording.dump(to)
        events = jep.findClass("jdk/jfr/consumer/RecordingFile").readAllEvents(to)
        reads = [e for e in events if e.getEventType().getName() == "io.instanttensor.Read"]
        # The engine rehearses with a file of its own.
        ours = [e for e in reads if e.getString("file") == path]
        print(sum(e.getLong("bytes") for e in ours), len(ours))
        """,
        str(path),
        str(tmp_path / "all.jfr"),
        INSTANTTENSOR_JAVA_OPTS="-XX:StartFlightRecording -Xlog:jfr*=off",
    )
    # Java itself tells that it records, on the lines before.
    count, reads = out.splitlines()[-1].split()
    assert int(count) == 40_000
    assert int(reads) >= 10
