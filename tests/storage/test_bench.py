"""The bench of slow storages, from its emulators to its table."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from sessions import outcome

BENCH = Path(__file__).parents[1] / "bench" / "slow_storage.py"
LOADERS = ("ours", "safetensors")


def test_a_run_leaves_figures_and_what_the_storage_saw(mountable: None, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["--rows", "half", "--loaders", ",".join(LOADERS), "--file-mib", "4"]
    words += ["--folder", str(tmp_path / "memory"), "--out", str(out)]
    done = outcome([sys.executable, str(BENCH), *words], patience_s=300, env={**os.environ, "BENCH_DEVICE": "cpu"})
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    answers = {record["loader"]: record for record in records if record["record"] == "answer"}
    assert tuple(answers) == LOADERS, records
    for found in answers.values():
        assert (found["size"], found["tensors"], found["bytes"]) == ("small", 4, 16 << 20)
        assert found["page_cache"] == [pytest.approx(0.5, abs=0.03)]
        assert found["storage"]["requests"] > 0
        assert 0 < found["storage"]["in_flight_mean"] <= found["storage"]["in_flight_most"]
    assert answers["safetensors"]["storage"]["direct_requests"] == 0
    text = (out / "report.md").read_text()
    assert "| half: 10 ms, 500 MB/s in all, half of each file cached (small: 0.02 GB) | first | " in text
    assert "| half | safetensors | " in text
    assert not (tmp_path / "memory").exists()
