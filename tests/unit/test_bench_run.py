"""A run of the bench, from checkpoints to its table; and what makes it fail."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bench_support import module

cases, consuming, machine, page_cache = map(module, ("cases", "consuming", "machine", "page_cache"))
# plots too, before its cases are replaced: others want the real ones.
_plots, report, run, storage = map(module, ("plots", "report", "run", "storage"))

TEN = cases.Case(
    "ten", "ten tensors", (cases.Checkpoint("small", (10, 4096)),), (cases.Checkpoint("small", (10, 4096)),),
    ("ours later >= 1 GB/s",), ("ours", "safetensors"),
)  # fmt: skip


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, list[dict[str, Any]], str]]:
    """Runs the one row on the CPU; answers status, records and report."""
    for one in (cases, run, report):
        monkeypatch.setattr(one, "CASES", (TEN,))
    for one in (machine, run):
        monkeypatch.setattr(one, "DEVICE", "cpu")

    def bench(*words: str) -> tuple[int, list[dict[str, Any]], str]:
        out = tmp_path / "out"
        fixed = ["--folder", str(tmp_path / "memory"), "--out", str(out), "--rounds", "1", "--opens", "2"]
        status = run.main([*fixed, "--loaders", "ours,safetensors", *words])
        records = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
        return status, records, (out / "report.md").read_text()

    return bench


def answer(loader: str, **more: Any) -> dict[str, Any]:
    """What time_loader.py could have printed."""
    return {
        "loader": loader, "device": "cpu", "tensors": 10, "bytes": 40_960, "largest_bytes": 4096,
        "seconds": [0.5, 0.25], "open_seconds": [0.1, 0.1], "pinned_rate": None, "boot_seconds": None, **more,
    }  # fmt: skip


def test_a_run_leaves_equal_checksums_and_a_table(bench: Any, tmp_path: Path) -> None:
    status, records, text = bench("--check")
    assert status == 0, records
    answers = [record for record in records if record["record"] == "answer"]
    assert {found["loader"] for found in answers} == {"ours", "safetensors"}
    assert len({found["checksum"] for found in answers}) == 1
    for found in answers:
        assert (found["tensors"], found["bytes"], found["size"]) == (10, 40_960, "full")
        assert len(found["seconds"]) == 2
        assert found["memory"]["resident"]["all"] >= 0
    assert records[0]["machine"]["gpu"] == "no GPU"
    assert "| ten: ten tensors | later |" in text
    assert not (tmp_path / "memory").exists()


def test_a_loader_with_other_bytes_makes_the_run_fail(
    bench: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sums = {"ours": "00000000000000aa", "safetensors": "00000000000000bb"}
    monkeypatch.setattr(run, "time_once", lambda loader, *_, **__: answer(loader, checksum=sums[loader]))
    status, _, text = bench("--check")
    why = "its checksum over all tensors is 00000000000000aa, and should be 00000000000000bb"
    assert status == 1
    assert f"ten: ours: {why}" in capsys.readouterr().err
    assert f"- ten, ours: {why}" in text


@pytest.mark.parametrize(("missing", "status"), [("safetensors", 0), ("ours", 1)])
def test_a_checksum_that_is_missing_is_named_and_ours_makes_the_run_fail(
    missing: str, status: int, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums = {loader: {} if loader == missing else {"checksum": "aa"} for loader in ("ours", "safetensors")}
    monkeypatch.setattr(run, "time_once", lambda loader, *_, **__: answer(loader, **sums[loader]))
    found, records, text = bench("--check")
    assert found == status
    assert f"- ten, {missing}: it has no checksum to compare" in text
    assert not [record for record in records if record["record"] == "compared"]


def test_what_keeps_all_tensors_wants_a_gpu_with_room_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    free = subprocess.CompletedProcess([], 0, stdout="40000000000\n")
    monkeypatch.setattr(run, "DEVICE", "cuda")
    monkeypatch.setattr(run.subprocess, "run", lambda *_, **__: free)
    size = cases.MOE
    why = {one: run.device_too_small(cases.Case("x", "", size, size, consume=one), size) for one in consuming.CONSUMERS}
    assert why["drop"] is None and why["first"] is None
    assert why["keep"] == why["parameter"] == "the GPU has room for 36.0 GB, 62.9 are needed"


def test_checkpoints_that_were_made_in_another_way_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, wanted = storage.Storage(tmp_path, False), cases.Checkpoint("tiny")
    place.make_all([wanted])
    assert place.is_there(wanted)
    monkeypatch.setattr(storage, "_recipe", lambda: "another")
    assert not place.is_there(wanted)
    place.make_all([wanted])
    assert place.is_there(wanted)


def test_a_run_keeps_away_from_where_another_one_is_measuring(bench: Any, tmp_path: Path) -> None:
    other = storage.Storage(tmp_path / "memory", True)
    other.claim()
    other.make_all([TEN.full[0]])
    with pytest.raises(SystemExit, match="another run is measuring in .*/memory/instanttensor-bench: wait for it"):
        bench()
    assert other.is_there(TEN.full[0])
    other.leave()
    assert bench("--keep")[0] == 0
    assert bench()[0] == 0
    assert not other.folder.exists()


def test_a_loader_that_failed_is_named_and_not_tried_again(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def time_once(loader: str, *_: Any, **__: Any) -> Any:
        calls.append(loader)
        return "not within 300 s" if loader == "safetensors" else answer(loader)

    monkeypatch.setattr(run, "time_once", time_once)
    status, _, text = bench("--rounds", "3")
    assert status == 0
    assert sorted(calls) == ["ours", "ours", "ours", "safetensors"]
    assert "- ten, safetensors: not within 300 s" in text


def test_our_own_failure_is_the_runs(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "time_once", lambda loader, *_, **__: "it broke" if loader == "ours" else answer(loader))
    status, _, text = bench()
    assert status == 1
    assert "- ten, ours: it broke" in text


def test_a_second_run_adds_to_the_first(bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.jsonl").write_text('{"record": "answer", "cut o')
    monkeypatch.setattr(run, "time_once", lambda loader, *_, **__: answer(loader))
    assert run.results_of.read([tmp_path / "out" / "results.jsonl"]) == []
    with pytest.raises(ValueError, match="Unterminated string"):
        bench()
    assert [record["record"] for record in run.results_of.read([tmp_path / "out" / "results.jsonl"])] == [
        "run", "answer", "answer",
    ]  # fmt: skip


def test_what_does_not_fit_is_left_out_with_its_reason(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "memory_available", lambda: storage.MEMORY_FLOOR_BYTES + 1000)
    _, records, _ = bench()
    (left_out,) = [record for record in records if record["record"] == "left out"]
    assert left_out["case"] == "ten"
    assert left_out["why"].endswith("has room for 0.0 GB, 0.0 are needed")


def test_an_unknown_row_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.arguments_of(["--rows", "tiny,huge"])
    assert "--rows: no huge; there are boot, boot-2cpus, disk-cached," in capsys.readouterr().err


def checksum(*pairs: tuple[str, torch.Tensor]) -> int:
    total = consuming.Checksum("cpu")
    for name, tensor in pairs:
        total.add(name, tensor)
    return int(total.value)


def test_the_checksum_sees_what_is_swapped_shifted_or_changed() -> None:
    a, b = torch.arange(100, dtype=torch.float32), torch.arange(1, 101, dtype=torch.float32)
    changed, shifted = a.clone(), a.roll(2)
    changed[99] = -1
    found = checksum(("a", a), ("b", b))
    assert found == checksum(("b", b), ("a", a))
    others = [
        (("a", b), ("b", a)), (("a", changed), ("b", b)), (("a", shifted), ("b", b)),
        (("a", a.view(10, 10)), ("b", b)), (("a", a.view(torch.int32)), ("b", b)), (("a", a),),
    ]  # fmt: skip
    assert found not in [checksum(*other) for other in others]


def test_the_checksum_takes_any_size_at_any_address(monkeypatch: pytest.MonkeyPatch) -> None:
    base = torch.arange(200, dtype=torch.uint8)
    assert checksum(("a", base[3:104])) == checksum(("a", base[3:104].clone()))
    assert checksum(("a", base[:0])) != checksum()
    assert checksum(("a", base[:9])) != checksum(("a", base[:8]))
    # In parts: their order counts too.
    monkeypatch.setattr(consuming, "WORDS", 2)
    parts = torch.arange(32, dtype=torch.uint8)
    assert checksum(("a", parts)) != checksum(("a", parts.roll(16)))


def test_the_page_cache_is_filled_and_emptied(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (4 << 20))
    assert page_cache.prepare([path], "as is") is None
    assert page_cache.prepare([path], "cached") == 1.0
    try:
        assert page_cache.prepare([path], "cold") == 0.0
    except RuntimeError as error:
        # A tmpfs is nothing but page cache.
        assert str(error) == "100.0% of the files lie in the page cache: they should be cold"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rounds", "0"], "--rounds: invalid count value: '0'"),
        (["--opens", "x"], "--opens: invalid count value: 'x'"),
        (["--disk", "/no/such"], "--disk: /no/such is no folder"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run.arguments_of(words)
    assert said in capsys.readouterr().err


def test_names_may_have_spaces_between_them() -> None:
    assert run.arguments_of(["--rows", "tiny, moe"]).rows == "tiny,moe"
