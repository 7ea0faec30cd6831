"""Slow storages in the bench: its rows, what a storage is said to have seen, and how that is judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bench_support import module

bars, loaders, page_cache, results = map(module, ("bars", "loaders", "page_cache", "results"))
run, slow_storage, storage_rows = map(module, ("run", "slow_storage", "storage_rows"))

FULL = storage_rows.FULL_FILE_MIB
ROWS = {row.name: row for row in storage_rows.rows(FULL)}
MIB = 1 << 20


def sample(at: float, requests: int = 10, most: int = 4, mean: float = 2.0, largest: int = MIB) -> Any:
    """A stretch of half a second, in which each request brought 1 MiB."""
    return slow_storage.Sample(at, 0.5, requests, requests, requests * MIB, largest, most, mean)


def answered(case: str, loader: str, seconds: float, **more: Any) -> dict[str, Any]:
    """2 GB."""
    return {
        "record": "answer", "run": "1", "case": case, "point": 0, "size": "full", "loader": loader, "device": "cpu",
        "tensors": 500, "bytes": 2_000_000_000, "largest_bytes": 4 * MIB, "seconds": [seconds],
        "open_seconds": [0.1], "pinned_rate": None, "boot_seconds": None, "storage": None, **more,
    }  # fmt: skip


def seen(**more: Any) -> dict[str, Any]:
    found = {
        "requests": 1907, "direct_requests": 1900, "bytes": 2_000_000_000, "largest_bytes": MIB,
        "in_flight_most": 32, "in_flight_mean": 20.25, "settled_most": 16, "settled_mean": 15.5,
    }  # fmt: skip
    return {"storage": {**found, **more}}


def judged(case: str, sentence: str, *records: dict[str, Any]) -> tuple[str, str]:
    verdict = bars.judge(results.Results(list(records)), ROWS[case], sentence)
    return verdict.found, verdict.word


@pytest.mark.parametrize("row", ROWS.values(), ids=lambda row: row.name)
def test_a_row_names_only_what_there_is(row: Any) -> None:
    assert set(row.loaders) <= set(loaders.LOADERS)
    assert row.cache in ("cold", "half")
    assert (row.where == "disk") == (row.emulator is None)
    for sentence in row.bars:
        parts = bars.parse(sentence)
        rivals = {parts["loader"], *parts.get("other", parts["loader"]).split(",")}
        assert rivals <= set(row.loaders)
        assert parts.get("timed", row.name) in ROWS


def test_half_of_a_row_is_as_large_as_the_half_alone() -> None:
    (whole,), (alone,) = ROWS["half"].full, ROWS["half-alone"].full
    assert whole.numbers[0] == 2 * alone.numbers[0]
    assert ROWS["half"].emulator == ROWS["half-alone"].emulator


def test_ours_loads_all_files_and_the_others_a_few() -> None:
    assert ROWS["latency"].files_of("ours-8x1") is None
    assert ROWS["latency"].files_of("safetensors") == 1
    assert ROWS["half"].files_of("safetensors") is None


def test_files_of_another_size_are_small_and_not_judged() -> None:
    (row, *_) = storage_rows.rows(8)
    assert row.small[0].numbers == (32, 4 * MIB, 16)
    assert row.full == ROWS["latency"].full
    assert ROWS["latency"].small == ROWS["latency"].full
    assert slow_storage.arguments_of(["--file-mib", "8"]).scale == "small"
    assert slow_storage.arguments_of([]).scale == "full"


def test_an_unknown_row_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        slow_storage.arguments_of(["--rows", "latency,tape"])
    said = "--rows: no tape; there are capped, descriptors, disk, half, half-alone, latency\n"
    assert capsys.readouterr().err.endswith(said)


def test_a_load_is_what_came_in_its_last_seconds() -> None:
    # What read headers before, and what was idle behind it, is not the load's.
    samples = [sample(1.0, 99, 50), sample(1.5, 0), sample(2.0), sample(2.5, most=7, mean=4.0), sample(3.0, 0, 0, 0.0)]
    found = slow_storage.summary(samples, 1.0)
    assert (found["requests"], found["direct_requests"], found["bytes"]) == (20, 20, 20 * MIB)
    assert (found["largest_bytes"], found["in_flight_most"], found["in_flight_mean"]) == (MIB, 7, 3.0)


def test_a_load_has_settled_after_its_first_second() -> None:
    samples = [sample(0.5 * (number + 1), most=most) for number, most in enumerate((40, 30, 9, 12))]
    found = slow_storage.summary(samples, 2.0)
    assert (found["in_flight_most"], found["settled_most"], found["settled_mean"]) == (40, 12, 2.0)


def test_or_after_5_per_cent_of_its_bytes_if_that_is_later() -> None:
    samples = [sample(0.5 * (number + 1), 1, 20 - number) for number in range(4)]
    samples.append(sample(2.5, 100, 5))
    assert slow_storage.summary(samples, 2.5)["settled_most"] is None
    samples.append(sample(3.0, 100, 4))
    assert slow_storage.summary(samples, 3.0)["settled_most"] == 4


def test_a_short_load_never_settles_and_none_at_all_has_no_summary() -> None:
    found = slow_storage.summary([sample(0.5), sample(1.0)], 1.0)
    assert (found["settled_most"], found["settled_mean"]) == (None, None)
    assert slow_storage.summary([sample(0.5, 0)], 0.5) is None


@pytest.mark.parametrize(
    ("sentence", "found", "word"),
    [
        ("ours first >= 190 MB/s", "200 MB/s", "met"),
        ("ours first >= 201 MB/s", "200 MB/s", "missed"),
        ("ours settled <= 16 requests", "16 requests", "met"),
        ("ours settled <= 15 requests", "16 requests", "missed"),
        ("safetensors first >= 1 MB/s", "", "no figure"),
    ],
)
def test_rates_of_slow_storages_and_requests_in_flight_are_judged(sentence: str, found: str, word: str) -> None:
    assert judged("capped", sentence, answered("capped", "ours", 10.0, **seen())) == (found, word)


def test_requests_in_flight_are_the_most_of_all_loads_that_settled() -> None:
    loads = [answered("capped", "ours", 10.0, **seen(settled_most=most)) for most in (15, None, 17)]
    sentence = "ours settled <= 16 requests"
    assert judged("capped", sentence, *loads) == ("17 requests", "missed")
    assert judged("capped", sentence, loads[1], answered("capped", "ours", 9.0)) == ("", "no figure")


def test_a_row_can_be_held_against_the_time_of_another() -> None:
    sentence = "ours first <= 1.1 times case half-alone"
    half, alone = answered("half", "ours", 4.6), answered("half-alone", "ours", 4.0)
    assert judged("half", sentence, half, alone) == ("1.15 times", "missed")
    assert judged("half", "ours first <= 1.2 times case half-alone", half, alone) == ("1.15 times", "met")
    assert judged("half", sentence, half) == ("", "no figure")


def test_a_small_size_is_not_judged_and_a_cpu_is_no_reason() -> None:
    small = answered("capped", "ours", 10.0, size="small")
    assert judged("capped", "ours first >= 190 MB/s", small) == ("200 MB/s", "not judged: small size")


def test_the_report_says_what_the_storage_saw() -> None:
    machine = {"gpu": "no GPU", "cpus": "2 CPUs", "memory": "24 GiB", "kernel": "Linux", "python": "Python 3.12"}
    ran = {"record": "run", "run": "1", "machine": {**machine, "versions": {}, "commit": None}}
    records = [
        ran, answered("capped", "ours", 10.0, **seen()), answered("disk", "ours", 2.0),
        answered("capped", "safetensors", 40.0, **seen(settled_most=None, settled_mean=None)),
    ]  # fmt: skip
    lines = slow_storage.render(records, ROWS.values()).splitlines()
    assert any(line.startswith("| capped: 200 MB/s in all | first | 200 MB/s | 50 MB/s | – | ") for line in lines)
    assert lines[-4:] == [
        "| storage | loader | MB | requests | direct | largest, KiB | in flight at most | mean | settled: at most "
        "| mean |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| capped | ours | 2,000 | 1,907 | 100% | 1,024 | 32.0 | 20.2 | 16.0 | 15.5 |",
        "| capped | safetensors | 2,000 | 1,907 | 100% | 1,024 | 32.0 | 20.2 | – | – |",
    ]


def test_half_of_every_file_can_be_cached(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (20 << 20))
    try:
        assert page_cache.prepare([path], "half") == 0.5
    except RuntimeError as error:
        # A tmpfs is nothing but page cache.
        assert str(error) == "100.0% of the files lie in the page cache: they should be half"
