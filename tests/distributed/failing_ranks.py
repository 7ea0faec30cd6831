"""What each rank does in test_failing_ranks.py: one of them fails, and all tell how they came out of it."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import ranks
import torch
import torch.distributed as dist
from instanttensor import _agreement, _distributed, safe_open
from rank_worlds import Cases, error, go_through, meet_on
from ranks import KIB
from safetensors.torch import load_file, save_file

PATIENCE_S = 60
MIB = 1 << 20
# Of the long checkpoint's slabs: four of its 40 tensors each.
SLAB_BYTES = 900 * KIB
# Of a group whose time-out ends a case.
GROUP_PATIENCE_S = 3
# So long do the others stay away from a rank that is to be interrupted while it waits for them, and so long does it
# wait before that.
AWAY_S, INTO_IT_S = 0.6, 0.3
# Ctrl-C so many times, each within so long.
STORM, STORM_S = 25, 0.05

CASES = Cases()


class Here(NamedTuple):
    """A rank in a case."""

    folder: Path
    rank: int
    world: int
    culprit: int
    device: torch.device

    @property
    def fails(self) -> bool:
        """Whether this is the rank that fails."""
        return self.rank == self.culprit

    def open(self, name: str = "long", framework: str = "pt", **options: Any) -> safe_open:
        """Opens one of the checkpoints with all ranks."""
        options = {"buffer_size": SLAB_BYTES, "device": self.device, "process_group": dist.group.WORLD, **options}
        return safe_open(self.folder / f"{name}.safetensors", framework, **options)

    def load(self, name: str = "long", framework: str = "pt", **options: Any) -> None:
        """Opens one and takes all its tensors."""
        with self.open(name, framework, **options) as f:
            for _ in f.tensors():
                pass

    def own_copy(self) -> Path:
        """A long checkpoint that this rank can spoil."""
        path = self.folder / f"own.{self.rank}.safetensors"
        path.write_bytes((self.folder / "long.safetensors").read_bytes())
        return path


def write_checkpoints(folder: Path) -> None:
    """All files of the cases, before any rank starts."""
    ranks.write_checkpoints(folder)
    long = load_file(folder / "long.safetensors")
    save_file(long, folder / "metadata.safetensors", {"other": "metadata"})
    save_file({**long, "more": torch.ones(3)}, folder / "more.safetensors")
    save_file({name: tensor.view(torch.int32) for name, tensor in long.items()}, folder / "types.safetensors")
    whole = (folder / "long.safetensors").read_bytes()
    (folder / "part.safetensors").write_bytes(whole[:-1])
    large = folder / "large.safetensors"
    header = json.dumps({"a": {"dtype": "U8", "shape": [512 * MIB], "data_offsets": [0, 512 * MIB]}}).encode()
    large.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(large, large.stat().st_size + 512 * MIB)


# Tracebacks that somebody keeps.
kept: list[BaseException] = []


def failing(function: Callable[[Here], None]) -> Callable[[Here], None]:
    """A case for each of two ranks that may be the one that fails."""
    for which, culprit in (("first", 0), ("last", -1)):
        CASES[f"{function.__name__} on the {which}"] = partial(told_in_case, function, culprit)
    return function


def told_in_case(
    function: Callable[[Here], None], culprit: int, folder: Path, rank: int, world: int, device: torch.device
) -> str:
    return told(function, Here(folder, rank, world, culprit % world, device))


def told(function: Callable[[Here], None], here: Here) -> str:
    """What came of a failure on this rank, as JSON, and whether all goes on working afterwards."""
    dist.barrier()
    begun = time.monotonic()
    # Ctrl-C included.
    text = error(lambda: function(here), BaseException, said)
    took_s = time.monotonic() - begun
    afterwards = ranks.same(here.folder / "plain.safetensors", copy=False, device=here.device)
    kept.clear()
    return json.dumps({"error": text, "took_s": took_s, "afterwards": afterwards, "slabs": ranks.live_slabs()})


def said(raised: BaseException) -> str:
    return "" if isinstance(raised, Untold) else str(raised)


# ----------------------------------------------------------------------------------------- opening


def no_engine(here: Here) -> None:
    with mock.patch.dict(os.environ, {"INSTANTTENSOR_JAVA_HOME": "/nowhere"} if here.fails else {}):
        here.load()


# The first case, and that once: afterwards every rank has an engine.
CASES["no_engine on the last"] = partial(told_in_case, no_engine, -1)


@failing
def an_argument(here: Here) -> None:
    here.load(buffer_size=-1 if here.fails else SLAB_BYTES)


@failing
def a_framework(here: Here) -> None:
    here.load(framework="jax" if here.fails else "pt")


@failing
def a_pattern(here: Here) -> None:
    here.load(tensor_filter=["(" if here.fails else "t.*"], tensor_name_match_mode="regex")


@failing
def a_device(here: Here) -> None:
    here.load(device="tpu" if here.fails else "cpu")


@failing
def a_missing_file(here: Here) -> None:
    here.load("missing" if here.fails else "long")


@failing
def half_a_file(here: Here) -> None:
    here.load("part" if here.fails else "long")


@failing
def a_warning_as_an_error(here: Here) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error" if here.fails else "ignore")
        here.load(concurrency=1000)


# --------------------------------------------------------------------------------------- comparing


@failing
def other_metadata(here: Here) -> None:
    here.load("metadata" if here.fails else "long")


@failing
def another_tensor(here: Here) -> None:
    here.load("more" if here.fails else "long")


@failing
def other_types(here: Here) -> None:
    here.load("types" if here.fails else "long")


@failing
def another_filter(here: Here) -> None:
    here.load(tensor_filter=["t1*"] if here.fails else ["t?", "t1?"])


@failing
def a_filter_on_one(here: Here) -> None:
    here.load(tensor_filter=["t?"] if here.fails else None)


@failing
def a_long_filter(here: Here) -> None:
    # As long as can be where it is compared: each of these characters takes twice its room there.
    here.load(tensor_filter=["t?", '\\"€' * 400] if here.fails else ["t1?", '\\"€' * 400])


@failing
def another_type_of_device(here: Here) -> None:
    """What a rank says that loads to a GPU while the others do not."""
    described = _agreement._described

    def elsewhere(*arguments: Any) -> dict[str, Any]:
        return {**described(*arguments), "device": "cuda"}

    with mock.patch.object(_agreement, "_described", elsewhere) if here.fails else ExitStack():
        here.load()


@failing
def no_memory_for_any_slab(here: Here) -> None:
    from instanttensor import _loading

    fails = mock.patch.object(_loading, "cap_bytes", side_effect=torch.OutOfMemoryError("0 bytes were free"))
    with fails if here.fails else ExitStack():
        here.load(buffer_size=None)


@failing
def closed_before_the_first(here: Here) -> None:
    f = here.open()
    tensors = f.tensors()
    if here.fails:
        f.close()
    for _ in tensors:
        pass


# ---------------------------------------------------------------------------------------- starting


@failing
def a_file_cut_before_the_load(here: Here) -> None:
    cut(here, after=0)


@failing
def a_warning_of_a_large_tensor(here: Here) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error" if here.fails else "ignore")
        here.load(buffer_size=150_000, tensor_filter=["t0"])


@failing
def no_progress_bar(here: Here) -> None:
    with mock.patch.dict(sys.modules, {"tqdm.auto": None}):
        here.load(progress=here.fails)


# --------------------------------------------------------------------------------------- in between


@failing
def a_file_cut_in_the_middle(here: Here) -> None:
    cut(here, after=5)


def cut(here: Here, after: int) -> None:
    """Truncates the file of the rank that fails, after so many tensors."""
    path = here.own_copy()
    options: dict[str, Any] = {"copy": False, "buffer_size": SLAB_BYTES, "device": here.device}
    with safe_open(path, "pt", process_group=dist.group.WORLD, **options) as f:
        tensors = f.tensors()
        for _ in range(after):
            next(tensors)
        dist.barrier()
        if here.fails:
            os.truncate(path, 1 * MIB)
        dist.barrier()
        for _ in tensors:
            pass


@failing
def no_memory_for_a_slab(here: Here) -> None:
    with here.open("large", buffer_size=1024 * MIB) as f, limited(200 * MIB if here.fails else None):
        next(f.tensors())


@contextmanager
def limited(more_bytes: int | None) -> Iterator[None]:
    """No more than that can be mapped in addition to what is."""
    import resource

    if more_bytes is None:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + more_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@failing
def no_view(here: Here) -> None:
    with here.open(copy=False) as f:
        for n, _ in enumerate(f.tensors()):
            if n == 5 and here.fails:
                # Not a Mock, which would remember what it was called with.
                f._checkpoint.framework.views = refuse_views  # type: ignore[method-assign,assignment]


def refuse_views(*_: Any) -> Any:
    raise MemoryError("no view")


@failing
def a_callback_that_raises(here: Here) -> None:
    def progress(done: int, total: int) -> None:
        if here.fails and done > total // 2:
            raise ZeroDivisionError(f"at more than half of {total}")

    here.load(progress=progress)


class Untold(Exception):
    """An error that has no text."""

    def __str__(self) -> str:
        raise ZeroDivisionError("while its text was made")


@failing
def an_error_without_a_text(here: Here) -> None:
    raised_at_half(here, Untold())


@failing
def an_error_that_is_no_utf_8(here: Here) -> None:
    raised_at_half(here, ValueError("a file called \udcff"))


def raised_at_half(here: Here, what: Exception) -> None:
    """Has the rank that fails raise it in the middle."""

    def progress(done: int, total: int) -> None:
        if here.fails and done > total // 2:
            raise what

    here.load(progress=progress)


@failing
def a_gather_that_fails(here: Here) -> None:
    """In a group of its own, which is good for nothing afterwards, and waits for a short time."""
    group = dist.new_group(timeout=timedelta(seconds=GROUP_PATIENCE_S))
    gather, asked = _distributed.Group.gather, []

    def fail_the_third(joint: _distributed.Group, base: torch.Tensor) -> None:
        asked.append(base.numel())
        if len(asked) == 3:
            raise MemoryError("no gather")
        gather(joint, base)

    with mock.patch.object(_distributed.Group, "gather", fail_the_third) if here.fails else ExitStack():
        here.load(process_group=group)


# ------------------------------------------------------------------------------------------ leaving


def until(here: Here, f: safe_open, leave: Callable[[], None], *, after: int = 6) -> None:
    """Takes all tensors; the rank that fails takes leave after some."""
    for n, _ in enumerate(f.tensors()):
        if here.fails and n == after:
            leave()


@failing
def a_break(here: Here) -> None:
    with here.open(copy=False) as f:
        for n, (_, tensor) in enumerate(f.tensors()):
            if here.fails and n == 6:
                break
            del tensor


@failing
def a_break_at_the_first(here: Here) -> None:
    with here.open() as f:
        for _ in f.tensors():
            if here.fails:
                break


@failing
def a_generator_closed(here: Here) -> None:
    with here.open() as f:
        tensors = f.tensors()
        for _ in tensors:
            if here.fails:
                tensors.close()  # type: ignore[attr-defined]


@failing
def an_error_of_the_loop(here: Here) -> None:
    def leave() -> None:
        raise ZeroDivisionError("in the loop")

    try:
        with here.open(copy=False) as f:
            until(here, f, leave)
    except ZeroDivisionError as error:
        kept.append(error)
        raise


@failing
def a_file_closed_in_the_loop(here: Here) -> None:
    f = here.open()
    until(here, f, f.close)


@failing
def a_file_closed_by_another_thread(here: Here) -> None:
    f = here.open()

    def leave() -> None:
        closing = threading.Thread(target=f.close)
        closing.start()
        closing.join()

    until(here, f, leave)


@failing
def a_file_closed_while_it_waits(here: Here) -> None:
    f = here.open()
    later(here, f.close)
    with_the_others_away(here, f)


def with_the_others_away(here: Here, f: safe_open) -> None:
    """Takes all tensors; the rank that fails has to wait for the others in the middle."""
    for n, _ in enumerate(f.tensors()):
        if n == 6 and not here.fails:
            time.sleep(AWAY_S)


def later(here: Here, action: Callable[[], None]) -> None:
    """Has the rank that fails do something while it waits."""
    if here.fails:
        timer = threading.Timer(INTO_IT_S, action)
        timer.daemon = True
        timer.start()


# ------------------------------------------------------------------------------------------- Ctrl-C


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@failing
def interrupted_while_others_open(here: Here) -> None:
    later(here, interrupt)
    if not here.fails:
        time.sleep(AWAY_S)
    here.load()


@failing
def interrupted_while_others_start(here: Here) -> None:
    with here.open() as f:
        later(here, interrupt)
        if not here.fails:
            time.sleep(AWAY_S)
        for _ in f.tensors():
            pass


@failing
def interrupted_while_others_load(here: Here) -> None:
    with here.open() as f:
        later(here, interrupt)
        with_the_others_away(here, f)


@failing
def interrupted_in_the_loop(here: Here) -> None:
    with here.open() as f:
        until(here, f, interrupt)


def interrupted_after(here: Here, doing: str) -> None:
    """Ctrl-C for the rank that fails, between what all do jointly and what follows it."""
    jointly, asked = _distributed.Group.jointly, []

    @contextmanager
    def interrupted(group: _distributed.Group, what: str) -> Iterator[_distributed.Round]:
        with jointly(group, what) as round_of:
            yield round_of
        if what == doing and not asked:
            asked.append(what)
            signal.raise_signal(signal.SIGINT)

    with mock.patch.object(_distributed.Group, "jointly", interrupted) if here.fails else ExitStack():
        here.load()


@failing
def interrupted_after_opening(here: Here) -> None:
    interrupted_after(here, "to open the checkpoint")


@failing
def interrupted_after_sizing(here: Here) -> None:
    interrupted_after(here, "to size its slabs")


@failing
def interrupted_after_starting(here: Here) -> None:
    interrupted_after(here, "to start loading")


def interrupted_at_any_moment(folder: Path, rank: int, world: int, device: torch.device) -> str:
    """Ctrl-C at moments that nobody chose, once tensors come. Then all load again, and another one is interrupted."""
    moments = random.Random(7)
    answers = []
    for number in range(STORM):
        here, moment_s = Here(folder, rank, world, number % world, device), moments.random() * STORM_S
        answers.append(json.loads(told(partial(in_a_storm, after_s=moment_s), here)))
    return json.dumps(answers)


def in_a_storm(here: Here, after_s: float) -> None:
    timer = threading.Timer(after_s, interrupt)
    with here.open(buffer_size=250_000) as f:
        for n, _ in enumerate(f.tensors()):
            if here.fails and n == 0:
                timer.start()
    if here.fails:
        # It comes for sure, and here at the latest.
        time.sleep(PATIENCE_S)


CASES["interrupted_at_any_moment"] = interrupted_at_any_moment


# --------------------------------------------------------------------------------------- subgroups


def failure_in_a_subgroup(folder: Path, rank: int, world: int, device: torch.device) -> str:
    """The last rank and the one before it are a group, in which the last one fails; the others load without them."""
    members = [world - 2, world - 1]
    group = dist.new_group(members)
    others = dist.new_group([r for r in range(world) if r not in members]) if world > 2 else None
    if rank not in members:
        return ranks.same(folder / "plain.safetensors", others, device=device)
    name = "missing" if rank == world - 1 else "long"
    text = error(lambda: list(safe_open(folder / f"{name}.safetensors", "pt", device, process_group=group).tensors()))
    return f"{text} / {ranks.same(folder / 'plain.safetensors', group, device=device)}"


CASES["failure_in_a_subgroup"] = failure_in_a_subgroup


def not_in_the_group(folder: Path, rank: int, world: int, device: torch.device) -> str:
    group = dist.new_group([0])
    return error(lambda: safe_open(folder / "plain.safetensors", "pt", process_group=group).close())


CASES["not_in_the_group"] = not_in_the_group


def live_in(rank: int, world: int, folder: str, kind: str = "cpu", *names: str) -> None:
    """Goes through the cases of these names, or through all; on a GPU of its own with kind "cuda"."""
    torch.set_num_threads(1)
    device = meet_on(kind, rank, world, folder, patience_s=PATIENCE_S)
    cases = {name: CASES[name] for name in names or CASES}
    go_through(Cases(cases), rank, folder, Path(folder), rank, world, device)
