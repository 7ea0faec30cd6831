"""Work that the caller queues finds the right bytes, however late the GPU comes to it and on whatever stream.

A kernel that only passes time holds the caller's stream back, while the loop runs ahead, drops the tensors and
lets the engine use their memory again. A wait that is missing anywhere shows up as a sum that is another tensor's.
"""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from gpu_support import MIB, check, check_totals, live_exports, numbered, settled, total
from instanttensor import safe_open

# Half a millisecond, about.
CYCLES = 1_000_000
SMALL = [16 * 1024] * 4096
LARGE = [256 * 1024 + index for index in range(256)]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4,096 tensors of 64 KiB."""
    return numbered(tmp_path_factory.mktemp("small") / "small.safetensors", SMALL)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """256 tensors of 1 MiB."""
    return numbered(tmp_path_factory.mktemp("large") / "large.safetensors", LARGE)


def stream_named(kind: str, device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.default_stream(device) if kind == "default stream" else torch.cuda.Stream(device)


STREAMS = ["default stream", "own stream"]


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("copy", [True, False])
def test_a_stream_that_lags_behind_the_loop(large: Path, cuda_device: torch.device, kind: str, copy: bool) -> None:
    totals = {}
    with torch.cuda.stream(stream_named(kind, cuda_device)):
        with safe_open(large, "pt", device=cuda_device, copy=copy, buffer_size=16 * MIB) as f:
            for name, tensor in f.tensors():
                torch.cuda._sleep(2 * CYCLES)
                totals[name] = total(tensor)
                del tensor
    check_totals(totals, LARGE)


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("copy", [True, False])
def test_a_stream_that_lags_by_several_slabs(small: Path, cuda_device: torch.device, kind: str, copy: bool) -> None:
    totals = {}
    with torch.cuda.stream(stream_named(kind, cuda_device)):
        with safe_open(small, "pt", device=cuda_device, copy=copy, buffer_size=8 * MIB) as f:
            for index, (name, tensor) in enumerate(f.tensors()):
                if index % 32 == 0:
                    torch.cuda._sleep(8 * CYCLES)
                totals[name] = total(tensor)
                del tensor
    check_totals(totals, SMALL)


@pytest.mark.parametrize("every", [1, 7, 64, 1000])
@pytest.mark.parametrize("copy", [True, False])
def test_the_current_stream_may_change_between_two_tensors(
    small: Path, cuda_device: torch.device, copy: bool, every: int
) -> None:
    streams = [torch.cuda.Stream(cuda_device), torch.cuda.default_stream(cuda_device), torch.cuda.Stream(cuda_device)]
    totals = {}
    # Slabs of 8 MiB are 128 tensors, which are copied in two groups.
    with safe_open(small, "pt", device=cuda_device, copy=copy, buffer_size=32 * MIB) as f:
        loading = f.tensors()
        for index in range(len(SMALL)):
            with torch.cuda.stream(streams[index // every % len(streams)]):
                name, tensor = next(loading)
                if index % 16 == 0:
                    torch.cuda._sleep(4 * CYCLES)
                totals[name] = total(tensor)
                del tensor
        assert next(loading, None) is None
    check_totals(totals, SMALL)


def test_a_copy_may_be_dropped_on_the_stream_that_it_was_yielded_on(small: Path, cuda_device: torch.device) -> None:
    streams = [torch.cuda.Stream(cuda_device), torch.cuda.Stream(cuda_device)]
    totals = {}
    with safe_open(small, "pt", device=cuda_device, copy=True, tensor_filter=["t?"]) as f:
        loading = f.tensors()
        with torch.cuda.stream(streams[0]):
            name, tensor = next(loading)
            totals[name] = total(tensor)
        with torch.cuda.stream(streams[1]):
            for name, tensor in loading:
                torch.cuda._sleep(20 * CYCLES)
                totals[name] = total(tensor)
                del tensor
    # What the first stream allocates now must be none of the memory that the second has yet to read.
    with torch.cuda.stream(streams[0]):
        others = [torch.full((SMALL[0],), -1, dtype=torch.int32, device=cuda_device) for _ in range(500)]
    check_totals(totals, SMALL[:10])
    del others


@pytest.mark.parametrize("kind", STREAMS)
def test_tensors_by_name_while_the_stream_lags(large: Path, cuda_device: torch.device, kind: str) -> None:
    totals = {}
    # torch gives the memory of a dropped tensor to the next one at once: its bytes may come only when the
    # stream has read the ones before.
    with torch.cuda.stream(stream_named(kind, cuda_device)), safe_open(large, "pt", device=cuda_device) as f:
        for name in f.keys():
            tensor = f.get_tensor(name)
            torch.cuda._sleep(2 * CYCLES)
            totals[name] = total(tensor)
            del tensor
    check_totals(totals, LARGE)


@pytest.mark.parametrize("kind", STREAMS)
def test_slices_while_the_stream_lags(large: Path, cuda_device: torch.device, kind: str) -> None:
    totals = {}
    with torch.cuda.stream(stream_named(kind, cuda_device)), safe_open(large, "pt", device=cuda_device) as f:
        for name in f.keys():
            part = f.get_slice(name)[100:200:3]
            torch.cuda._sleep(2 * CYCLES)
            totals[name] = total(part)
            del part
    check_totals(totals, [34] * len(LARGE))


@pytest.mark.parametrize("copy", [True, False])
def test_views_of_one_slab_on_several_streams(large: Path, cuda_device: torch.device, copy: bool) -> None:
    # As torch wants it: a tensor that goes to another stream waits for the first, and is recorded there
    # or joined before it is dropped.
    main, side = torch.cuda.current_stream(cuda_device), torch.cuda.Stream(cuda_device)
    totals = {}
    with safe_open(large, "pt", device=cuda_device, copy=copy, buffer_size=16 * MIB) as f:
        for name, tensor in f.tensors():
            side.wait_stream(main)
            with torch.cuda.stream(side):
                torch.cuda._sleep(CYCLES)
                totals[name] = total(tensor)
            main.wait_stream(side)
            del tensor
    check_totals(totals, LARGE)


@pytest.mark.parametrize("copy", [True, False])
def test_two_threads_load_at_once_each_on_a_stream_of_its_own(
    large: Path, small: Path, cuda_device: torch.device, copy: bool
) -> None:
    barrier = threading.Barrier(2, timeout=60)

    def load(path: Path) -> dict[str, torch.Tensor]:
        totals = {}
        with torch.cuda.stream(torch.cuda.Stream(cuda_device)):
            with safe_open(path, "pt", device=cuda_device, copy=copy, buffer_size=16 * MIB) as f:
                barrier.wait()
                for index, (name, tensor) in enumerate(f.tensors()):
                    if index % 32 == 0:
                        torch.cuda._sleep(8 * CYCLES)
                    totals[name] = total(tensor)
                    del tensor
        return totals

    with ThreadPoolExecutor(2) as pool:
        of_large, of_small = pool.map(load, [large, small])
    check_totals(of_large, LARGE)
    check_totals(of_small, SMALL)


@pytest.mark.parametrize("copy", [True, False])
def test_two_threads_load_from_one_open_file(large: Path, cuda_device: torch.device, copy: bool) -> None:
    options = {"copy": copy, "buffer_size": 16 * MIB}
    with safe_open(large, "pt", device=cuda_device, **options) as f, ThreadPoolExecutor(2) as pool:
        for loaded in pool.map(lambda _: dict(f.tensors()), range(2)):
            check_totals({name: total(tensor) for name, tensor in loaded.items()}, LARGE)
        assert f.stats()["loads"] == 2


@pytest.mark.parametrize("copy", [True, False])
def test_two_open_files_take_turns(large: Path, small: Path, cuda_device: torch.device, copy: bool) -> None:
    totals: list[dict[str, torch.Tensor]] = [{}, {}]
    with contextlib.ExitStack() as stack:
        files = [
            stack.enter_context(safe_open(path, "pt", device=cuda_device, copy=copy, buffer_size=8 * MIB))
            for path in (small, large)
        ]
        for pairs in zip(*(f.tensors() for f in files)):
            for found, (name, tensor) in zip(totals, pairs):
                found[name] = total(tensor)
            del pairs, tensor
    # The shorter one ends it.
    assert len(totals[1]) == len(LARGE)
    check_totals(totals[0], SMALL[: len(totals[0])])
    check_totals(totals[1], LARGE)


def test_views_outlive_the_file_and_what_is_loaded_after_it(large: Path, cuda_device: torch.device) -> None:
    with safe_open(large, "pt", device=cuda_device, copy=False, buffer_size=16 * MIB) as f:
        kept = dict(f.tensors())
    del f
    with safe_open(large, "pt", device=cuda_device, copy=False, buffer_size=16 * MIB) as f:
        for _ in f.tensors():
            pass
    for name, tensor in kept.items():
        check(name, tensor)


def test_tensors_may_be_dropped_on_other_threads_while_the_stream_lags(large: Path, cuda_device: torch.device) -> None:
    totals = {}
    with safe_open(large, "pt", device=cuda_device, copy=False, buffer_size=16 * MIB) as f:
        with ThreadPoolExecutor(3) as pool:
            for name, tensor in f.tensors():
                torch.cuda._sleep(2 * CYCLES)
                totals[name] = total(tensor)
                box = [tensor]
                del tensor
                pool.submit(box.clear)
                del box
    check_totals(totals, LARGE)
    assert live_exports() == 0


@pytest.mark.parametrize("copy", [True, False])
def test_a_captured_graph_replays_as_before(large: Path, cuda_device: torch.device, copy: bool) -> None:
    settled(cuda_device)  # memory that is freed by another thread would spoil the capture
    x = torch.arange(1 << 20, dtype=torch.float32, device=cuda_device)
    side = torch.cuda.Stream(cuda_device)
    side.wait_stream(torch.cuda.current_stream(cuda_device))
    with torch.cuda.stream(side):
        y = x * 2 + 1
    torch.cuda.current_stream(cuda_device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = (x * 2 + 1).cumsum(0)
    graph.replay()
    expected = y.clone()
    with safe_open(large, "pt", device=cuda_device, copy=copy, buffer_size=16 * MIB) as f:
        for index, (_, tensor) in enumerate(f.tensors()):
            if index % 16 == 0:
                graph.replay()
            del tensor
    y.zero_()
    graph.replay()
    assert torch.equal(y, expected)


def test_views_take_nothing_from_torchs_allocator(large: Path, cuda_device: torch.device) -> None:
    with safe_open(large, "pt", device=cuda_device, copy=False) as f:
        before = torch.cuda.memory_allocated(cuda_device)
        views = dict(f.tensors())
        assert torch.cuda.memory_allocated(cuda_device) == before
    assert len(views) == len(LARGE)
