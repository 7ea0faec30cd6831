"""The bench's timeline: a load recorded through the JVM in the process, without a JDK."""

from __future__ import annotations

import json
from pathlib import Path

from bench_support import BENCH, module
from samples import run

EVENTS = [
    {"kind": "Read", "thread": "reader-0", "start": 0.1, "end": 0.2, "bytes": 1_000_000_000},
    {"kind": "Copy", "thread": "reader-0", "start": 0.2, "end": 0.3, "bytes": 500_000_000},
    {"kind": "Read", "thread": "reader-1", "start": 0.1, "end": 0.5, "bytes": 1_000_000_000},
    {"kind": "Wait", "thread": "reader-1", "start": 0.5, "end": 0.6, "bytes": 0},
]


def test_every_read_of_a_load_is_in_it(tmp_path: Path) -> None:
    checkpoints = module("checkpoints")
    checkpoints.write("giant", tmp_path, 3, 20 << 20, 2)
    script = """
        import json, sys
        sys.path.append(sys.argv[1])
        from timeline import record
        print(json.dumps(record(sys.argv[2:], "cpu", copy=False, opens=2)))
    """
    recorded = json.loads(run(script, str(BENCH), *map(str, sorted(tmp_path.iterdir()))))
    reads = [event for event in recorded["events"] if event["kind"] == "Read"]
    assert sum(event["bytes"] for event in reads) == 3 * (20 << 20)
    for event in reads:
        assert 0 <= event["start"] <= event["end"] <= recorded["seconds"] + 0.1
        assert event["thread"].startswith("instanttensor")
    assert [event["start"] for event in reads] == sorted(event["start"] for event in reads)


def test_its_summary_says_what_threads_spent_their_time_on() -> None:
    assert module("timeline").summary({"bytes": 2_000_000_000, "seconds": 1.0, "events": EVENTS}) == (
        "2.00 GB in 1.000 s; Read: 2 events, 2.00 GB, 25% of 2 threads' time; "
        "Copy: 1 events, 0.50 GB, 5% of 2 threads' time; Wait: 1 events, 5% of 2 threads' time"
    )


def test_it_is_drawn_with_events_of_any_kind(tmp_path: Path) -> None:
    module("timeline").draw({"bytes": 1, "seconds": 1.0, "events": EVENTS}, tmp_path / "timeline.png")
    assert (tmp_path / "timeline.png").read_bytes().startswith(b"\x89PNG")
