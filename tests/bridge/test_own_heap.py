"""What checkpoints of very many tensors leave behind in Java's heap is collected as they are closed."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from jvm_support import run

LOADS = """
    from instanttensor import _bridge, safe_open
    engine = _bridge.engine()
    import jep
    runtime = jep.findClass("java/lang/Runtime").getRuntime()
    management = jep.findClass("java/lang/management/ManagementFactory")
    beans = {{bean.getName(): bean for bean in management.getGarbageCollectorMXBeans()}}
    for _ in range({loads}):
        with safe_open({path!r}, framework="pt", device="cpu") as f:
            assert len(f.keys()) == {tensors}
    used = runtime.totalMemory() - runtime.freeMemory()
    print(beans["MarkSweepCompact"].getCollectionCount(), runtime.totalMemory() >> 20, used >> 20)
"""


def heap_after(folder: Path, tensors: int, loads: int) -> tuple[int, int, int]:
    """How often all of the heap was collected during so many checkpoints; how large it is, how much of it is used."""
    header = {f"t{i}": {"dtype": "U8", "shape": [1], "data_offsets": [i, i + 1]} for i in range(tensors)}
    text = json.dumps(header).encode()
    path = folder / "many.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(tensors))
    collections, mib, used = map(int, run(LOADS.format(path=str(path), tensors=tensors, loads=loads)).split())
    return collections, mib, used


def test_opening_very_many_tensors_again_and_again_does_not_fill_the_heap(tmp_path: Path) -> None:
    collections, mib, used = heap_after(tmp_path, tensors=200_000, loads=12)
    # Without them the heap has 200 MiB by now, and goes on to its limit.
    assert collections == 12
    assert mib <= 150
    # Nothing of the one that was closed last is among it: its names alone are 15 MiB.
    assert used <= 20


def test_few_tensors_leave_nothing_that_is_worth_it(tmp_path: Path) -> None:
    assert heap_after(tmp_path, tensors=1_000, loads=12)[0] == 0
