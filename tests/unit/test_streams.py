"""In which order streams are told of each other when the caller changes the current one, without a GPU."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from instanttensor import _loading
from instanttensor._catalogue import Kind
from instanttensor._slabs import OwnSlabs
from instanttensor._torch import Torch

COUNT = 200
ELEMENTS = 4


class Told(Torch):
    """Tensors on the host, with streams that only have numbers; writes down what is asked of it."""

    def __init__(self, done: list[Any]) -> None:
        import torch

        super().__init__(torch.device("cpu"))
        self.now = 1
        self.done = done
        self._streams = iter(lambda: self.now, None)

    def follow(self, stream: int) -> None:
        self.done.append(("follow", self.now, stream))

    def wrap(self, export: Any) -> Any:
        # The slab, which lies nowhere.
        export.address.clear()
        return self._torch.zeros(COUNT * ELEMENTS, dtype=self._torch.uint8)

    def copies(self, base: Any, runs: Sequence[Any]) -> list[Any]:
        self.done.append(("copy", self.now, sum(len(run.names) for run in runs)))
        return super().copies(base, runs)

    def keep_for_current(self, array: Any) -> None:
        self.done.append(("keep", self.now))


class Load:
    """A load of one slab."""

    tensor_counts = (COUNT,)
    slab_bytes = (COUNT * ELEMENTS,)
    java = "open"

    def __init__(self, done: list[Any]) -> None:
        self.done = done

    def alive(self) -> Load:
        return self

    def offsets(self, first: int, stop: int) -> list[int]:
        return list(range(first * ELEMENTS, stop * ELEMENTS, ELEMENTS))

    def alsoOn(self, stream: int) -> None:  # noqa: N802  (Java's)
        self.done.append(("also on", stream))

    def next_slab(self, export: Any, stream: int, waiting: Any) -> None:
        export.address.append(1)


class Columns:
    selected = range(COUNT)
    kinds = (Kind("U8", (ELEMENTS,), ELEMENTS),)

    def columns(self, indexes: Sequence[int]) -> tuple[list[str], list[tuple[int, int]]]:
        return [f"t{number}" for number in indexes], [(0, len(indexes))]


def loading(done: list[Any], framework: Told, *, copy: bool) -> Any:
    load: Any = Load(done)
    slabs = OwnSlabs(load, framework, lambda _: None)
    checkpoint: Any = SimpleNamespace(catalogue=Columns(), framework=framework)
    begun = _loading.Begun(load, slabs, 1 << 30, lambda: None)
    return _loading.tensors(checkpoint, lambda undo: begun, copy=copy)


@pytest.mark.parametrize("copy", [True, False])
def test_who_never_changes_the_stream_hears_nothing_of_it(copy: bool) -> None:
    done: list[Any] = []
    assert len(list(loading(done, Told(done), copy=copy))) == COUNT
    assert done == ([("copy", 1, 128), ("copy", 1, 72)] if copy else [])


def test_a_stream_waits_for_the_slab_before_it_copies_from_it() -> None:
    done: list[Any] = []
    framework = Told(done)
    tensors = loading(done, framework, copy=True)
    for _ in range(128):
        next(tensors)
    framework.now = 2
    next(tensors)
    assert done == [("copy", 1, 128), ("also on", 2), ("follow", 2, 1), ("copy", 2, 72)]


def test_a_copy_that_another_stream_gets_is_kept_until_that_one_is_done_with_it() -> None:
    done: list[Any] = []
    framework = Told(done)
    tensors = loading(done, framework, copy=True)
    next(tensors)
    framework.now = 2
    next(tensors)
    next(tensors)
    framework.now = 1
    next(tensors)
    assert done == [
        ("copy", 1, 128), ("also on", 2), ("follow", 2, 1), ("keep", 2), ("keep", 2), ("also on", 1), ("follow", 1, 2)
    ]  # fmt: skip


def test_a_view_is_handed_to_the_stream_that_is_current() -> None:
    done: list[Any] = []
    framework = Told(done)
    tensors = loading(done, framework, copy=False)
    next(tensors)
    framework.now = 2
    next(tensors)
    assert done == [("also on", 2), ("follow", 2, 1)]


def test_a_copy_that_the_caller_drops_is_gone_when_the_next_one_comes() -> None:
    done: list[Any] = []
    seen: list[Any] = []
    alive: set[int] = set()
    for name, tensor in loading(done, Told(done), copy=True):
        alive.add(sum(there() is not None for there in seen))
        seen.append(weakref.ref(tensor))
        del name, tensor
    assert alive == {0}
