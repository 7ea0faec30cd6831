"""``python -m instanttensor doctor`` where there is a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import instanttensor
import pytest
import torch
from samples import stored, write


@pytest.mark.parametrize("asked", [(), ("--device", "cuda:0")])
def test_it_loads_to_the_first_gpu(asked: tuple[str, ...], cuda_device: torch.device, tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"a": stored("F32", [1 << 20])})
    done = subprocess.run(
        [sys.executable, "-m", "instanttensor", "doctor", "--json", *asked, str(path)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                filter(None, (str(Path(instanttensor.__file__).parents[1]), os.environ.get("PYTHONPATH")))
            ),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    whole = json.loads(done.stdout)
    facts = {finding["check"]: finding["facts"] for finding in reversed(whole["findings"])}
    assert (whole["works"], whole["device"], whole["verdict"]) == (True, "cuda:0", "A load to cuda:0 works here.")
    properties = torch.cuda.get_device_properties(0)
    assert facts["gpu"]["name"] == properties.name
    # The driver counts what it keeps for itself, torch does not.
    assert facts["gpu"]["total_bytes"] == pytest.approx(properties.total_memory, rel=0.05)
    assert 0 < facts["gpu"]["free_bytes"] <= facts["gpu"]["total_bytes"]
    assert facts["driver"]["state"] == "ready"
    assert torch.version.cuda is not None
    assert float(facts["driver"]["cuda"]) > 12
    assert 0 < facts["plan"]["staging_bytes"] <= 120 << 20
    assert (facts["load"]["device"], facts["load"]["bytes"]) == ("cuda:0", 4 << 20)
    assert [finding["text"] for finding in whole["findings"] if finding["level"] == "fail"] == []
