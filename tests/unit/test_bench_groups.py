"""The bench of ranks that load together: layouts, processes, and what becomes of ranks that fail."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bench_support import module

checkpoints, groups, layouts, machine, results = map(
    module, ("checkpoints", "groups", "layouts", "machine", "results")
)

Bench = Callable[..., tuple[int, list[dict[str, Any]], str]]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Runs ranks on the CPU over ten tensors of 4 KiB; answers status, records and report."""
    monkeypatch.setattr(machine, "DEVICE", "cpu")
    checkpoints.write("small", tmp_path / "ten", 10, 4096)

    def bench(*words: str) -> tuple[int, list[dict[str, Any]], str]:
        out = tmp_path / "out"
        status = groups.main([str(tmp_path / "ten"), "--device", "cpu", "--out", str(out), "--opens", "2", *words])
        (report,) = out.glob("*.md")
        return status, results.read([out / "results.jsonl"]), report.read_text()

    return bench


@pytest.mark.parametrize(
    ("sizes", "together", "expected"),
    [
        ((2, 1, 2, 2), "tp", [[0, 1], [2, 3], [4, 5], [6, 7]]),
        ((2, 1, 2, 2), "dp", [[0, 2], [1, 3], [4, 6], [5, 7]]),
        ((2, 1, 2, 2), "pp", [[0, 4], [1, 5], [2, 6], [3, 7]]),
        ((2, 4, 2, 2), "ep", [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ((1, 2, 4, 1), "ep", [[0, 1], [2, 3]]),
        ((2, 1, 2, 2), "stage", [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ((2, 1, 2, 2), "all", [[0, 1, 2, 3, 4, 5, 6, 7]]),
        ((1, 1, 1, 2), "stage", [[0], [1]]),
    ],
)
def test_ranks_are_in_the_groups_that_megatron_puts_them_in(
    sizes: tuple[int, ...], together: str, expected: list[list[int]]
) -> None:
    assert layouts.Layout(*sizes, together).groups() == expected


def test_a_layout_says_who_loads_together() -> None:
    layout = layouts.Layout(2, 1, 1, 2)
    assert (layout.name, str(layout)) == ("tp2-pp2", "0+1 and 2+3")
    layout = layouts.Layout(1, 2, 2, 1, "dp")
    assert (layout.name, str(layout)) == ("ep2-dp2-by-dp", "0+1")
    assert layouts.Layout(1, 1, 1, 1).name == "tp1"


@pytest.mark.parametrize(
    ("words", "layout"),
    [
        ("", (2, 1, 1, 1)),
        ("--ranks 8", (8, 1, 1, 1)),
        ("--ranks 8 --tp 2 --pp 2", (2, 1, 2, 2)),
        ("--ranks 8 --dp 4 --ep 4", (2, 4, 4, 1)),
    ],
)
def test_what_is_not_said_of_a_layout_follows_from_the_ranks(
    words: str, layout: tuple[int, ...], tmp_path: Path
) -> None:
    checkpoints.write("tiny", tmp_path)
    assert groups.arguments_of([str(tmp_path), *words.split()])[1] == layouts.Layout(*layout)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("--ranks 2 --tp 4", "tp 4 x dp 1 x pp 1 are not 2 ranks"),
        ("--ranks 2 --pp 4", "tp 1 x dp 1 x pp 4 are not 2 ranks"),
        ("--ranks 3 --pp 2", "tp 1 x dp 1 x pp 2 are not 3 ranks"),
        ("--ranks 4 --ep 3", "expert groups of 3 do not divide a stage of 4 ranks"),
        ("--pp 0", "argument --pp: invalid count value: '0'"),
        ("--loaders runai", "--loaders: no runai; there are cpp, cpp-copy, ours, ours-alone, ours-copy, safetensors"),
    ],
)
def test_what_cannot_be_is_refused(words: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints.write("tiny", tmp_path)
    with pytest.raises(SystemExit):
        groups.arguments_of([str(tmp_path), *words.split()])
    assert capsys.readouterr().err.endswith(f"error: {why}\n")


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        groups.arguments_of([str(tmp_path)])
    assert capsys.readouterr().err.endswith(f"error: {tmp_path} holds no safetensors file\n")


def test_two_ranks_together_find_what_safetensors_finds_alone(bench: Bench) -> None:
    status, records, text = bench("--loaders", "ours,cpp,safetensors", "--check", "--memory")
    assert status == 0, records
    answers = {record["loader"]: record for record in records if record["record"] == "answer"}
    assert list(answers) == ["ours", "safetensors"]
    assert len({answer["checksum"] for answer in answers.values()}) == 1
    assert {name: len(answer["rank_seconds"]) for name, answer in answers.items()} == {"ours": 2, "safetensors": 1}
    ours = answers["ours"]
    assert ours["seconds"] == [max(both) for both in zip(*ours["rank_seconds"])]
    assert (len(ours["seconds"]), ours["bytes"], ours["tensors"], ours["size"]) == (2, 40_960, 10, "small")
    assert ours["gather_rate"] > 0
    assert ours["memory"]["slab_bytes"] > 0
    # Each rank has read its part.
    assert ours["stats"]["read_bytes"] < 40_960
    assert "| moe-tp2: ten by ranks 0+1 (small: 0.00 GB) | later |" in text
    assert "ours later >= 80 GB/s" in text
    assert "not judged: no GPU" in text
    assert "- InstantTensor (C++), copy=False left out: it needs a GPU" in text


def test_groups_load_at_the_same_time(bench: Bench) -> None:
    status, records, text = bench("--ranks", "4", "--tp", "2", "--pp", "2", "--loaders", "ours", "--check")
    assert status == 0, records
    (answer,) = [record for record in records if record["record"] == "answer"]
    assert len(answer["rank_seconds"]) == 4
    assert answer["stats"]["read_bytes"] < 40_960
    assert "| moe-tp2-pp2: ten by ranks 0+1 and 2+3 (small: 0.00 GB) | first |" in text
    # Those of two ranks are not for four.
    assert "GB/s |" not in text


def test_a_loader_that_fails_is_named_with_its_rank_and_the_others_go_on(bench: Bench, tmp_path: Path) -> None:
    (path,) = (tmp_path / "ten").iterdir()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    status, records, text = bench("--loaders", "ours,safetensors")
    failed = {record["loader"]: record["error"] for record in records if record["record"] == "failed"}
    assert status == 1
    assert list(failed) == ["ours", "safetensors"]
    assert failed["ours"].startswith("rank ")
    assert str(path) in failed["ours"]
    assert f"- moe-tp2, ours: {failed['ours']}" in text


@pytest.fixture
def ranks(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[subprocess.Popen[bytes]]]]:
    """Has ranks of loaders run scripts; answers their processes."""
    started: list[subprocess.Popen[bytes]] = []

    def instead(**scripts: list[str]) -> list[subprocess.Popen[bytes]]:
        def start(loader: str, groups: Any, arguments: Any, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
            for rank, script in enumerate(scripts[loader]):
                with open(folder / f"{rank}.out", "wb") as out, open(folder / f"{rank}.err", "wb") as err:
                    started.append(subprocess.Popen([sys.executable, "-c", script], stdout=out, stderr=err))
                yield started[-1]

        monkeypatch.setattr(groups, "start", start)
        return started

    yield instead
    for process in started:
        process.kill()
        process.wait()


def prints(*lines: dict[str, Any], then: str = "") -> str:
    """A script of a rank."""
    return "".join(f"print({json.dumps(line)!r}, flush=True);" for line in lines) + then


def answer(*seconds: float, **more: Any) -> dict[str, Any]:
    """What a rank could have found."""
    return {
        "device": "cuda", "tensors": 20_000, "bytes": 61_700_000_000, "largest_bytes": 1 << 20,
        "seconds": list(seconds), "open_seconds": [0.1] * len(seconds), "boot_seconds": None,
        "pinned_rates": [40.0, 50.0], "pinned_rate": 50.0, "gather_rate": 500.0, **more,
    }  # fmt: skip


HANGS = "import time; time.sleep(600)"


def test_ranks_that_hang_are_killed(bench: Bench, ranks: Any) -> None:
    started = ranks(ours=[prints(answer(1.0)), HANGS])
    begun = time.monotonic()
    status, _, text = bench("--loaders", "ours", "--limit", "3", "--rounds", "2")
    assert (status, len(started)) == (1, 2)
    assert time.monotonic() - begun < 60
    assert [process.returncode for process in started] == [0, -9]
    assert "- moe-tp2, ours: not within 3 s: rank 1" in text


def test_a_rank_that_waits_for_one_that_failed_does_not_take_the_whole_limit(
    bench: Bench, ranks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "GRACE_SECONDS", 1)
    started = ranks(ours=[HANGS, prints({"error": "OSError: no file"}, then="raise SystemExit(1)")])
    status, _, text = bench("--loaders", "ours", "--limit", "500")
    assert status == 1
    assert [process.returncode for process in started] == [-9, 1]
    assert "- moe-tp2, ours: rank 1: OSError: no file; 1 s later still running: rank 0" in text


def test_figures_that_are_there_before_a_hang_stay(bench: Bench, ranks: Any) -> None:
    ranks(ours=[prints(answer(1.0, 0.5), then=HANGS), prints(answer(0.9, 0.7))])
    _, records, text = bench("--loaders", "ours", "--limit", "5")
    assert [record["record"] for record in records] == ["run", "answer", "failed"]
    assert records[1]["seconds"] == [1.0, 0.7]
    assert "- moe-tp2, ours: not within 5 s: rank 0" in text


def test_the_slowest_rank_counts_and_bars_are_judged(bench: Bench, ranks: Any) -> None:
    script = {
        "ours": [prints(answer(0.8, 0.7)), prints(answer(0.7, 0.75))],
        "cpp": [prints(answer(1.5, 1.5)), prints(answer(1.5, 1.5))],
        "ours-alone": [prints(answer(1.23, 1.1, gather_rate=None))],
    }
    script["cpp-copy"] = script["cpp"]
    ranks(**script)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "missing", lambda loader, arguments: None)
        _, records, text = bench("--loaders", ",".join(script))
    ours = next(record for record in records if record["record"] == "answer")
    assert (ours["loader"], ours["seconds"], ours["size"]) == ("ours", [0.8, 0.75], "full")
    # Of both ranks in the better round.
    assert ours["pinned_rate"] == 100.0
    bars = "ours first >= 70 GB/s; ours first >= 1.6 of cpp,cpp-copy; ours first >= 1.5 of ours-alone"
    verdicts = "met (77.1 GB/s); met (1.88); met (1.54)"
    assert f"| first | 77.1 | 50.2 | 41.1 | 41.1 | 0.77 | {bars} | {verdicts} |" in text
    bars = "ours later >= 80 GB/s; ours later >= 1.6 of cpp,cpp-copy; ours later >= 1.5 of ours-alone"
    verdicts = "met (82.3 GB/s); met (2.00); missed (1.47)"
    assert f"| later | 82.3 | 56.1 | 41.1 | 41.1 | 0.82 | {bars} | {verdicts} |" in text
    assert "In-place all-gather of 128 MiB in every group at once: 500.0 GB/s." in text


def test_small_tensors_have_their_own_bar(bench: Bench, ranks: Any) -> None:
    small = {"tensors": 60_000, "bytes": 60_000 << 16, "largest_bytes": 1 << 16}
    ranks(ours=[prints(answer(0.2, 0.1, **small)), prints(answer(0.25, 0.2, **small))])
    _, _, text = bench("--loaders", "ours", "--small")
    assert "ours first >= 18 GB/s | missed (15.7 GB/s) |" in text
    assert "ours later >= 18 GB/s | met (19.7 GB/s) |" in text


def test_other_bytes_on_one_rank_or_of_one_loader_make_the_run_fail(
    bench: Bench, ranks: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = answer(1.0, checksum="aa"), answer(1.0, checksum="bb")
    ranks(**{"ours": [prints(one), prints(other)], "ours-copy": [prints(other)] * 2, "safetensors": [prints(one)]})
    status, _, text = bench("--loaders", "ours,ours-copy,safetensors", "--check")
    assert status == 1
    assert "- moe-tp2, ours: its checksum over all tensors is aa on rank 0, and on rank 1 bb" in text
    assert "- moe-tp2, ours-copy: its checksum over all tensors is bb, and should be aa" in text
