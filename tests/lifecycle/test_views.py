"""Tensors outlive whatever they came from, and slabs go back when the last of them is gone."""

from __future__ import annotations

import gc
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from instanttensor import safe_open
from lifecycle_support import KIB, TENSOR_BYTES, check, eventually, live_exports, readers

pytestmark = pytest.mark.usefixtures("nothing_left")

FRAMEWORKS = ["np", "pt"]
# Every tensor in a slab of its own, and room for three of them.
THREE_SLABS = 3 * TENSOR_BYTES
# Slabs of several tensors, and several of those.
FEW_IN_A_SLAB = 16 * TENSOR_BYTES


def check_all(tensors: dict[str, Any]) -> None:
    assert len(tensors) == 24
    for name, tensor in tensors.items():
        check(name, tensor)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("copy", [False, True])
def test_tensors_outlive_loop_generator_and_file(checkpoint: Path, framework: str, copy: bool) -> None:
    with safe_open(checkpoint, framework, copy=copy, buffer_size=FEW_IN_A_SLAB) as f:
        tensors = dict(f.tensors())
    del f
    gc.collect()
    assert live_exports() == (0 if copy else 6)
    check_all(tensors)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_slab_goes_back_with_the_last_of_its_views_in_any_order(checkpoint: Path, framework: str) -> None:
    with safe_open(checkpoint, framework, copy=False, buffer_size=FEW_IN_A_SLAB) as f:
        tensors = dict(f.tensors())
    order = list(tensors)
    random.Random(7).shuffle(order)
    for name in order[:23]:
        del tensors[name]
    assert live_exports() == 1
    check(order[23], tensors[order[23]])
    tensors.clear()
    assert live_exports() == 0


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_views_may_be_dropped_on_another_thread(checkpoint: Path, framework: str) -> None:
    with safe_open(checkpoint, framework, copy=False, buffer_size=THREE_SLABS) as f:
        tensors = dict(f.tensors())
        assert live_exports() == 24
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(tensors.pop, list(tensors)))
    assert live_exports() == 0


def test_views_in_a_cycle_are_freed_by_the_collector(checkpoint: Path) -> None:
    class Holder:
        pass

    gc.disable()
    try:
        with safe_open(checkpoint, "pt", copy=False, buffer_size=THREE_SLABS) as f:
            for _, tensor in f.tensors():
                holder = Holder()
                holder.me, holder.tensor = holder, tensor
        del holder, tensor
    finally:
        gc.enable()
    assert live_exports() == 0  # which collects


def test_views_outlive_the_load_while_others_of_the_same_file_go_on(checkpoint: Path) -> None:
    with safe_open(checkpoint, "np", copy=False, buffer_size=THREE_SLABS) as f:
        kept = []
        for _ in range(5):
            for name, tensor in f.tensors():
                if name in ("t001", "t011"):
                    kept.append((name, tensor))
        for name, tensor in kept:
            check(name, tensor)
    for name, tensor in kept:
        check(name, tensor)


# ------------------------------------------------------------------------------------- no stalls


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize("backend", [None, "BUFFERED"])
def test_a_caller_who_keeps_everything_does_not_stall_the_load(
    checkpoint: Path, framework: str, copy: bool, backend: str | None
) -> None:
    with safe_open(checkpoint, framework, copy=copy, buffer_size=THREE_SLABS, backend=backend) as f:
        check_all(dict(f.tensors()))
        stats = f.stats()
    assert stats["peak_buffer_bytes"] <= THREE_SLABS


@pytest.mark.parametrize("copy", [False, True])
def test_a_caller_who_holds_one_tensor_does_not_stall_the_load(checkpoint: Path, copy: bool) -> None:
    with safe_open(checkpoint, "pt", copy=copy, buffer_size=THREE_SLABS) as f:
        first = None
        for name, tensor in f.tensors():
            first = tensor if first is None else first
            check(name, tensor)
    check("t000", first)


@pytest.mark.parametrize("copy", [False, True])
def test_the_loop_variable_alone_does_not_stall_the_load(checkpoint: Path, copy: bool) -> None:
    # The cap holds one tensor, which the loop variable keeps while the next is asked for.
    with safe_open(checkpoint, "pt", copy=copy, buffer_size=TENSOR_BYTES) as f:
        count = 0
        for name, tensor in f.tensors():  # noqa: B007
            count += 1
        check(name, tensor)
    assert count == 24


@pytest.mark.filterwarnings("ignore:larger than buffer_size")
def test_tensors_larger_than_the_cap_are_handed_out_as_they_are(checkpoint: Path) -> None:
    with safe_open(checkpoint, "pt", buffer_size=4 * KIB) as f:
        tensors = dict(f.tensors())
        assert live_exports() == 24
    check_all(tensors)


def test_get_tensor_works_inside_of_the_loop(checkpoint: Path) -> None:
    with safe_open(checkpoint, "pt", copy=False, buffer_size=THREE_SLABS) as f:
        for name, tensor in f.tensors():
            other = f"t{(int(name[1:]) * 7 + 3) % 24:03}"
            check(other, f.get_tensor(other))
            check(name, tensor)


@pytest.mark.parametrize("copy", [False, True])
def test_two_loops_over_one_file_interleave(checkpoint: Path, copy: bool) -> None:
    with safe_open(checkpoint, "np", copy=copy, buffer_size=THREE_SLABS) as f:
        fast, slow = f.tensors(), f.tensors()
        for name, tensor in fast:
            check(name, tensor)
            if int(name[1:]) % 2:
                check(*next(slow))
        rest = [name for name, tensor in slow]
    assert rest == [f"t{n:03}" for n in range(12, 24)]


# --------------------------------------------------------------------------------------- threads


def test_threads_load_from_one_file_at_once(checkpoint: Path) -> None:
    with safe_open(checkpoint, "pt", copy=False, buffer_size=THREE_SLABS) as f, ThreadPoolExecutor(6) as pool:
        for tensors in pool.map(lambda _: dict(f.tensors()), range(6)):
            check_all(tensors)
        assert f.stats()["loads"] == 6


def test_threads_load_from_files_of_their_own(checkpoint: Path) -> None:
    def load(_: int) -> dict[str, Any]:
        with safe_open(checkpoint, "pt", buffer_size=THREE_SLABS) as f:
            return dict(f.tensors())

    with ThreadPoolExecutor(6) as pool:
        for tensors in pool.map(load, range(6)):
            check_all(tensors)


def test_sixteen_threads_ask_for_tensors_by_name(checkpoint: Path) -> None:
    names = [f"t{n:03}" for n in range(24)] * 8
    random.Random(11).shuffle(names)
    with safe_open(checkpoint, "pt") as f, ThreadPoolExecutor(16) as pool:
        for name, tensor in zip(names, pool.map(f.get_tensor, names)):
            check(name, tensor)
        stats = f.stats()
    assert (stats["loads"], stats["bytes"]) == (len(names), len(names) * TENSOR_BYTES)


def test_slices_are_read_by_threads_at_once(checkpoint: Path) -> None:
    def part(number: int) -> bool:
        rows = f.get_slice(f"t{number % 24:03}")[number : number + 100]
        return list(rows) == [1000 * (number % 24) + number + n for n in range(100)]

    with safe_open(checkpoint, "np") as f, ThreadPoolExecutor(8) as pool:
        assert all(pool.map(part, range(96)))


# -------------------------------------------------------------------------- capsules and consumers


def test_a_capsule_that_nobody_took_gives_its_slab_back(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    with safe_open(checkpoint, "pt", copy=False, buffer_size=THREE_SLABS) as f:
        with monkeypatch.context() as patched:
            patched.setattr("torch.from_dlpack", kept.append)
            with pytest.raises(AttributeError):
                next(f.tensors())
        eventually(lambda: live_exports() == 0, "the slab given back")
    # Whoever comes late finds it used.
    import torch

    with pytest.raises((RuntimeError, ValueError), match="once|already|used_dltensor"):
        torch.from_dlpack(kept[0])


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_library_that_refuses_a_slab_loses_none(
    checkpoint: Path, framework: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Any) -> Any:
        raise BufferError("not today")

    with safe_open(checkpoint, framework, copy=False, buffer_size=THREE_SLABS) as f:
        with monkeypatch.context() as patched:
            library = __import__("torch" if framework == "pt" else "numpy")
            patched.setattr(library, "from_dlpack", refuse)
            with pytest.raises(BufferError, match="not today"):
                next(f.tensors())
        eventually(lambda: live_exports() == 0, "the slab given back")
        check_all(dict(f.tensors()))


def test_a_failed_view_loses_no_slab(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise MemoryError("no view")

    with safe_open(checkpoint, "pt", copy=False, buffer_size=FEW_IN_A_SLAB) as f:
        monkeypatch.setattr(f._checkpoint.framework, "views", refuse)
        with pytest.raises(MemoryError, match="no view"):
            next(f.tensors())


# ------------------------------------------------------------------------------- leaving a loop


def test_a_generator_that_never_started_holds_nothing(checkpoint: Path) -> None:
    with safe_open(checkpoint, "np") as f:
        generator = f.tensors()
        assert readers() == []
        del generator
        assert f.stats()["loads"] == 0


@pytest.mark.parametrize("how", ["dropped", "closed", "broken out of", "thrown into", "exhausted"])
def test_a_generator_that_is_left_stops_its_readers_and_frees_its_slabs(checkpoint: Path, how: str) -> None:
    with safe_open(checkpoint, "np", copy=False, buffer_size=THREE_SLABS) as f:
        generator = f.tensors()
        name, tensor = next(generator)
        if how == "closed":
            generator.close()
        elif how == "broken out of":
            for _ in generator:
                break
            del _
        elif how == "thrown into":
            with pytest.raises(ZeroDivisionError):
                generator.throw(ZeroDivisionError)
        elif how == "exhausted":
            assert sum(1 for _ in generator) == 23
        del generator
        eventually(lambda: not readers(), "readers gone")
        assert live_exports() == 1
        check(name, tensor)
        assert f.stats()["loads"] == 1
        check_all(dict(f.tensors()))


def test_a_generator_outlives_the_name_of_its_file(checkpoint: Path) -> None:
    generator = safe_open(checkpoint, "pt", copy=False, buffer_size=THREE_SLABS).tensors()
    gc.collect()
    check_all(dict(generator))


def test_a_generator_may_be_dropped_on_another_thread(checkpoint: Path) -> None:
    with safe_open(checkpoint, "pt", copy=False, buffer_size=THREE_SLABS) as f:
        box = [f.tensors()]
        next(box[0])
        thread = threading.Thread(target=box.clear)
        thread.start()
        thread.join()
        eventually(lambda: not readers(), "readers gone")
