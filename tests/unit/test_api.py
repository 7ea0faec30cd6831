"""The face of the package: names, signatures, and what an import costs."""

from __future__ import annotations

import copy
import gc
import inspect
import pickle
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import instanttensor
import pytest
import torch
from instanttensor import Backend, BackendPolicy, safe_open
from samples import bytes_of, run, some_bytes, stored, write


def test_the_public_names() -> None:
    assert instanttensor.__all__ == ["Backend", "BackendPolicy", "__version__", "safe_open"]
    assert instanttensor.__version__.startswith("0.2.2+java")
    assert [member.name for member in Backend] == ["AIO", "AIO_BUFFERED", "URING", "URING_BUFFERED", "CUFILE", "MMAP"]
    assert [member.name for member in BackendPolicy] == ["BUFFERED"]


def test_every_public_name_is_documented() -> None:
    assert safe_open.__doc__
    for name, member in inspect.getmembers(safe_open, inspect.isfunction):
        if not name.startswith("_"):
            assert inspect.getdoc(member), name


def test_the_signature_takes_all_that_instanttensor_0_2_2_takes() -> None:
    parameters = list(inspect.signature(safe_open).parameters.values())
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    keyword = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert positional == ["filename", "framework", "device", "process_group"]
    assert keyword == {
        "buffer_size": None, "chunk_size": None, "concurrency": None, "io_depth": None, "max_free_mem_usage": None,
        "load_now": True, "copy": True, "backend": None, "tensor_filter": None, "tensor_name_match_mode": "glob",
        "progress": False,
        # Ours alone.
        "read_once_per": "group",
    }  # fmt: skip
    assert {p.name: p.default for p in parameters[2:4]} == {"device": "cpu", "process_group": None}


def test_every_parameter_is_documented() -> None:
    text = safe_open.__doc__ or ""
    for name in inspect.signature(safe_open).parameters:
        assert f"    {name} : " in text, name


def test_importing_starts_nothing_and_loads_neither_torch_nor_numpy_nor_java() -> None:
    out = run("""
        import os, sys
        before = set(sys.modules)
        import instanttensor
        heavy = {"torch", "numpy", "jep", "_jep", "safetensors.torch", "ml_dtypes", "tqdm", "subprocess", "logging"}
        print(sorted(heavy & (set(sys.modules) - before)), len(os.listdir("/proc/self/task")))
        with open("/proc/self/maps") as maps:
            print("libjvm" in maps.read())
    """)
    assert out.splitlines() == ["[] 1", "False"]


def test_numpy_arrays_need_no_torch(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"a": stored("F32", [5])})
    out = run(
        """
        import sys
        from instanttensor import safe_open
        with safe_open(sys.argv[1], "np") as f:
            print(len(dict(f.tensors())), f.get_tensor("a").shape, f.get_tensor_metadata("a"), "torch" in sys.modules)
        """,
        str(path),
    )
    assert out == "1 (5,) (dtype('float32'), (5,)) False"


def test_with_and_without_a_with_block(checkpoint: Path) -> None:
    f = safe_open(checkpoint, framework="pt", device="cpu")
    with f as entered:
        assert entered is f
        assert "odd" in f
        assert list(f) == f.keys()
        assert len(f) == len(f.keys())
        assert f.metadata() == {"format": "pt"}
        assert f.total_tensor_size == sum(t.nbytes for _, t in f.tensors())
    f.close()
    f.close()


def test_keys_is_a_new_list_each_time(checkpoint: Path) -> None:
    with safe_open(checkpoint, "pt") as f:
        f.keys().clear()
        assert len(f.keys()) == len(f)


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), "cpu:0"])
def test_the_host_by_any_name(device: object, tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"a": stored("U8", [3])})
    with safe_open(path, "pt", device) as f:  # type: ignore[arg-type]
        assert f.get_tensor("a").device == torch.device("cpu")


@pytest.mark.parametrize("framework", ["pt", "torch", "pytorch"])
def test_torch_by_any_name(framework: str, checkpoint: Path) -> None:
    with safe_open(checkpoint, framework) as f:
        assert isinstance(f.get_tensor("odd"), torch.Tensor)


@pytest.mark.parametrize("framework", ["np", "numpy"])
def test_numpy_by_any_name(framework: str, checkpoint: Path) -> None:
    with safe_open(checkpoint, framework) as f:
        assert type(f.get_tensor("odd")).__module__ == "numpy"


def test_load_now_makes_no_difference(checkpoint: Path) -> None:
    for load_now in (True, False):
        with safe_open(checkpoint, "pt", load_now=load_now) as f:
            assert dict(f.tensors()).keys() == set(f.keys())


def test_get_tensors_without_names_gives_all_by_name(checkpoint: Path) -> None:
    with safe_open(checkpoint, "pt") as f:
        everything = f.get_tensors()
        assert list(everything) == f.keys()
        assert list(f.get_tensors(iter(["odd", "scalar", "odd"]))) == ["odd", "scalar"]
        assert f.get_tensors([]) == {}


def test_two_passes_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {str(i): stored("F32", [1000], i) for i in range(50)})
    with safe_open(path, "pt", buffer_size=20_000) as f:
        for (left, a), (right, b) in zip(f.tensors(), f.tensors(), strict=True):
            assert left == right
            assert torch.equal(a, b)
            assert torch.equal(f.get_tensor(left), a)


def test_a_pass_that_is_left_does_not_disturb_the_next(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {str(i): stored("F32", [1000], i) for i in range(50)})
    with safe_open(path, "pt", buffer_size=20_000, copy=False) as f:
        for taken in (0, 1, 25):
            iterator = f.tensors()
            views = [view for _, view in islice(iterator, taken)]
            iterator.close()
            assert [bytes_of(view) for view in views] == [some_bytes(4000, i) for i in range(taken)]
        assert [bytes_of(t) for _, t in f.tensors()] == [some_bytes(4000, i) for i in range(50)]


def test_views_of_numpy_outlive_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {str(i): stored("F32", [1000], i) for i in range(20)})
    with safe_open(path, "np", copy=False, buffer_size=20_000) as f:
        views = [view for _, view in f.tensors()]
    gc.collect()
    assert [bytes_of(view) for view in views] == [some_bytes(4000, i) for i in range(20)]


def test_tensors_can_be_written_to(tmp_path: Path) -> None:
    """Copies and views alike; what is written stays in memory."""
    path = write(tmp_path / "a.safetensors", {"a": stored("F32", [10]), "b": stored("F32", [10])})
    content = path.read_bytes()
    for own in (True, False):
        with safe_open(path, "pt", copy=own) as f:
            for _, t in f.tensors():
                t.fill_(7)
            f.get_tensor("a").fill_(7)
        # 8 bytes: each has storage of its own, whether it is to be copied or not.
        for size in (8, None):
            expected = pytest.warns(RuntimeWarning, match="larger than buffer_size") if size else nullcontext()
            with expected, safe_open(path, "np", copy=own, buffer_size=size) as f:
                for _, array in f.tensors():
                    array.fill(7)
                f.get_tensor("a").fill(7)
    assert path.read_bytes() == content


def test_its_attributes_say_what_was_opened(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{name}.safetensors", {name: stored("U8", [1])}) for name in "ba"]
    with safe_open(paths, "pt", "cpu:0") as f:
        assert f.filename == [str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors")]
        assert (f.framework, f.device) == ("pt", torch.device("cpu"))
    with safe_open(iter(paths), "numpy", torch.device("cpu", 0)) as f:
        assert (f.framework, f.device) == ("numpy", "cpu")


def test_it_is_true_whatever_it_holds(tmp_path: Path) -> None:
    f = safe_open(write(tmp_path / "a.safetensors", {}), "pt")
    assert f
    assert len(f) == 0
    f.close()
    assert f


def test_a_copy_of_it_would_close_the_files_under_it(checkpoint: Path) -> None:
    with safe_open(checkpoint, "pt") as f:
        for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError) as refused:
                duplicate(f)
            assert str(refused.value) == (
                "a safe_open can be neither copied nor pickled: open the checkpoint once more"
            )
        assert f.get_tensor("odd").shape == (13,)


def test_backends_survive_a_pickle() -> None:
    for member in (*Backend, *BackendPolicy):
        assert pickle.loads(pickle.dumps(member)) is member


def test_a_subclass_is_a_safe_open(checkpoint: Path) -> None:
    class Prefixed(safe_open):
        def tensors(self) -> Iterator[tuple[str, Any]]:
            for name, tensor in super().tensors():
                yield f"model.{name}", tensor

    with Prefixed(checkpoint, "pt") as f:
        assert isinstance(f, safe_open)
        assert [name for name, _ in f.tensors()] == [f"model.{name}" for name in f.keys()]


def test_the_repr_of_backends_tells_their_names() -> None:
    assert repr(Backend.MMAP) == "<Backend.MMAP: 'MMAP'>"
