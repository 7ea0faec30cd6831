"""Closing while others read."""

from __future__ import annotations

import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from instanttensor import safe_open
from instanttensor._catalogue import Catalogue
from instanttensor._slabs import OwnSlabs
from instanttensor._torch import Torch
from lifecycle_support import TENSOR_BYTES, check, eventually, live_exports, readers
from safetensors import SafetensorError
from slow_files import SlowFiles

pytestmark = pytest.mark.usefixtures("nothing_left")

THREE_SLABS = 3 * TENSOR_BYTES


def closed() -> Any:
    return pytest.raises(SafetensorError, match="^File is closed$")


def test_whatever_is_asked_after_close_says_so(checkpoint: Path) -> None:
    f = safe_open(checkpoint, "pt")
    part = f.get_slice("t000")
    unstarted = f.tensors()
    f.close()
    f.close()
    for call in (
        f.keys, f.offset_keys, f.metadata, f.tensors, f.stats, f.__enter__, f.get_tensors,
        lambda: len(f), lambda: "t000" in f, lambda: list(f), lambda: f.get_tensor("t000"),
        lambda: f.get_slice("t000"), lambda: f.get_tensor_metadata("t000"), lambda: part[0], lambda: part[:],
        lambda: next(unstarted),
    ):  # fmt: skip
        with closed():
            call()


@pytest.mark.parametrize("copy", [False, True])
def test_closing_inside_of_the_loop_ends_it_and_leaves_what_was_handed_out(checkpoint: Path, copy: bool) -> None:
    kept = []
    f = safe_open(checkpoint, "pt", copy=copy, buffer_size=8 * TENSOR_BYTES)
    with closed():
        for name, tensor in f.tensors():
            kept.append((name, tensor))
            if len(kept) == 5:
                f.close()
    for name, tensor in kept:
        check(name, tensor)
    assert len(kept) == 5
    eventually(lambda: not readers(), "readers gone")


@pytest.mark.parametrize("copy", [False, True])
def test_closing_between_the_first_slab_and_the_catalogue_frees_the_slab(
    checkpoint: Path, copy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    f = safe_open(checkpoint, "pt", copy=copy, buffer_size=THREE_SLABS)
    taken = []
    take = OwnSlabs.take

    def take_and_close(self: OwnSlabs) -> tuple[Any, int]:
        slab = take(self)
        taken.append(weakref.ref(slab[0]))
        f.close()
        return slab

    monkeypatch.setattr(OwnSlabs, "take", take_and_close)
    with closed():
        next(f.tensors())
    assert len(taken) == 1
    eventually(lambda: taken[0]() is None, "the slab is freed")


@pytest.mark.parametrize("copy", [False, True])
def test_who_leaves_early_has_given_the_slab_back_before_the_load_ends(
    checkpoint: Path, copy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = live_exports()
    copied = []
    left = []
    copies = Torch.copies

    def made(self: Torch, base: Any, runs: Any) -> list[Any]:
        tensors = copies(self, base, runs)
        copied.extend(map(weakref.ref, tensors))
        return tensors

    monkeypatch.setattr(Torch, "copies", made)
    monkeypatch.setattr(
        OwnSlabs, "leave", lambda *_: left.append((live_exports(), sum(copy() is not None for copy in copied)))
    )
    with safe_open(checkpoint, "pt", copy=copy, buffer_size=8 * TENSOR_BYTES) as f:
        tensors = f.tensors()
        check(*next(tensors))
        tensors.close()
    ((exports, undead),) = left
    assert exports <= before
    assert undead == 0
    assert bool(copied) == copy


def test_the_catalogue_is_decoded_when_the_first_slab_is_there(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []
    take, decode = OwnSlabs.take, Catalogue._decode
    monkeypatch.setattr(OwnSlabs, "take", lambda self: (take(self), done.append("slab"))[0])
    monkeypatch.setattr(Catalogue, "_decode", lambda self, block: (done.append("catalogue"), decode(self, block))[1])
    with safe_open(checkpoint, "np", copy=False) as f:
        for name, tensor in f.tensors():
            check(name, tensor)
    assert done[:2] == ["slab", "catalogue"]


def test_another_thread_may_close_while_this_one_loads(checkpoint: Path) -> None:
    for attempt in range(30):
        f = safe_open(checkpoint, "np", copy=False, buffer_size=THREE_SLABS)
        started = threading.Event()

        def load() -> int:
            count = 0
            try:
                for name, tensor in f.tensors():  # noqa: B023
                    check(name, tensor)
                    count += 1
                    started.set()  # noqa: B023
            except SafetensorError as e:
                assert str(e) == "File is closed"
                return count
            return count

        with ThreadPoolExecutor(1) as pool:
            loading = pool.submit(load)
            started.wait()
            time.sleep(attempt % 6 * 0.0005)
            f.close()
            assert 1 <= loading.result() <= 24


def test_many_threads_may_close_at_once(checkpoint: Path) -> None:
    for _ in range(10):
        f = safe_open(checkpoint, "np", copy=False, buffer_size=THREE_SLABS)
        generator = f.tensors()
        next(generator)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: f.close(), range(8)))  # noqa: B023
        with closed():
            next(generator)


def test_asking_by_name_while_another_thread_closes_brings_the_tensor_or_says_so(checkpoint: Path) -> None:
    for _ in range(20):
        f = safe_open(checkpoint, "np")

        def ask(number: int) -> bool:
            name = f"t{number % 24:03}"
            try:
                check(name, f.get_tensor(name))  # noqa: B023
            except SafetensorError as e:
                assert str(e) == "File is closed"
                return False
            return True

        with ThreadPoolExecutor(4) as pool:
            answers = [pool.submit(ask, number) for number in range(12)]
            assert answers[2].result()
            f.close()
            for answer in answers:
                answer.result()


@pytest.mark.parametrize("framework", ["np", "pt"])
def test_closing_wakes_a_thread_that_waits_for_storage(slow_file: SlowFiles, framework: str) -> None:
    f = safe_open(slow_file.path, framework, copy=False, buffer_size=THREE_SLABS)
    slow_file.hang(TENSOR_BYTES)
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(lambda: list(f.tensors()))
        slow_file.await_hanging()
        start = time.monotonic()
        f.close()
        with closed():
            loading.result(timeout=60)
        assert time.monotonic() - start < 5
    slow_file.answer_again()
    eventually(lambda: not readers(), "readers gone once the storage answers")


def test_a_load_that_started_before_the_close_of_others_goes_on(checkpoint: Path) -> None:
    with safe_open(checkpoint, "np", buffer_size=THREE_SLABS) as f:
        generator = f.tensors()
        next(generator)
        with safe_open(checkpoint, "np") as g:
            next(g.tensors())
        assert sum(1 for _ in generator) == 23
