"""Bad arguments, calls and times to make them: which error, in which words, and that nothing stays behind."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from instanttensor import safe_open
from safetensors import SafetensorError
from samples import Stored, bytes_of, raw, run, some_bytes, stored, write

pytestmark = pytest.mark.usefixtures("nothing_stays")

ONE: dict[str, Stored] = {"a": stored("F32", [2])}


def test_unknown_and_missing_arguments(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", ONE)
    with pytest.raises(TypeError, match="unexpected keyword argument 'bufer_size'"):
        safe_open(path, "pt", bufer_size=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'framework'"):
        safe_open(path)  # type: ignore[call-arg]


DEVICES = "'cpu', 'cuda', 'cuda:N', N or a torch.device of these"


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"framework": "tf"}, ValueError, "framework='tf': expected one of 'pt' (torch), 'np' (numpy)"),
        ({"framework": None}, TypeError, "framework: expected a str, got NoneType"),
        ({"device": "tpu"}, ValueError, f"device='tpu': expected {DEVICES}"),
        ({"device": "meta"}, ValueError, f"device='meta': expected {DEVICES}"),
        ({"device": -1}, ValueError, f"device=-1: expected {DEVICES}"),
        ({"device": 1.0}, TypeError, f"device: expected {DEVICES}, got float"),
        ({"device": True}, TypeError, f"device: expected {DEVICES}, got bool"),
        ({"framework": "np", "device": "cuda"}, ValueError, "device='cuda': framework='np' has arrays on 'cpu' only"),
        ({"copy": 1}, TypeError, "copy: expected a bool, got int"),
        ({"load_now": None}, TypeError, "load_now: expected a bool, got NoneType"),
        ({"progress": 1}, TypeError, "progress: expected False, True or a callable, got int"),
        ({"tensor_filter": "a"}, TypeError, "tensor_filter: expected a list of str, got a single str"),
        ({"filename": 5}, TypeError, "filename: expected a path or an iterable of paths, got int"),
        ({"filename": None}, TypeError, "filename: expected a path or an iterable of paths, got NoneType"),
        ({"filename": b"a"}, TypeError, "filename: expected str or os.PathLike, found bytes"),
        ({"filename": [b"a"]}, TypeError, "filename: expected str or os.PathLike, found bytes"),
        ({"filename": []}, ValueError, "filename: expected at least one path, got none"),
        ({"filename": "a\0b"}, ValueError, "filename: 'a\\x00b' contains a NUL character"),
        ({"filename": "\udcff"}, ValueError, "filename: '\\udcff' is not UTF-8, as names of files have to be here"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: dict[str, Any], kind: type[Exception], words: str, tmp_path: Path
) -> None:
    given = {"filename": write(tmp_path / "a.safetensors", ONE), "framework": "pt", **arguments}
    with pytest.raises(kind) as refused:
        safe_open(**given)
    assert str(refused.value) == words


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", 0, torch.device("cuda"), torch.device("cuda", 1)])
def test_no_cuda(device: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", ONE)
    with pytest.raises(RuntimeError) as refused:
        safe_open(path, "pt", device)
    name = f"cuda:{device}" if isinstance(device, int) else str(device)
    why = "no CUDA driver or no GPU was found" if torch.version.cuda else "this torch was built without CUDA"
    assert str(refused.value) == f"device='{name}': {why} (torch {torch.__version__}); use device='cpu'"


METHODS: dict[str, Callable[[safe_open], Any]] = {
    "keys": lambda f: f.keys(),
    "offset_keys": lambda f: f.offset_keys(),
    "len": len,
    "in": lambda f: "a" in f,
    "iter": iter,
    "metadata": lambda f: f.metadata(),
    "get_tensor_metadata": lambda f: f.get_tensor_metadata("a"),
    "tensors": lambda f: f.tensors(),
    "get_tensor": lambda f: f.get_tensor("a"),
    "get_tensors": lambda f: f.get_tensors(["a"]),
    "get_tensors without names": lambda f: f.get_tensors(),
    "get_slice": lambda f: f.get_slice("a"),
    "stats": lambda f: f.stats(),
    "with": lambda f: f.__enter__(),
}


@pytest.mark.parametrize("method", METHODS)
def test_use_after_close(method: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", ONE)
    f = safe_open(path, "pt")
    METHODS[method](f)
    with f:
        pass
    f.close()
    with pytest.raises(SafetensorError) as refused:
        METHODS[method](f)
    assert str(refused.value) == "File is closed"


@pytest.mark.parametrize("taken", [0, 1, 5])
@pytest.mark.parametrize("copy", [True, False])
def test_a_generator_ends_by_an_error_when_the_file_is_closed_under_it(taken: int, copy: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {f"{i}": stored("F32", [100], i) for i in range(10)})
    f = safe_open(path, "pt", copy=copy)
    iterator = f.tensors()
    kept = [next(iterator)[1] for _ in range(taken)]
    f.close()
    with pytest.raises(SafetensorError) as refused:
        next(iterator)
    assert str(refused.value) == "File is closed"
    assert list(iterator) == []
    assert [bytes_of(t) for t in kept] == [some_bytes(400, i) for i in range(taken)]


def test_a_slice_of_a_closed_file(tmp_path: Path) -> None:
    with safe_open(write(tmp_path / "a.safetensors", {"a": stored("F32", [2, 0])}), "pt") as f:
        part = f.get_slice("a")
    assert (part.get_shape(), part.get_dtype()) == ([2, 0], "F32")
    with pytest.raises(SafetensorError) as refused:
        part[0]
    assert str(refused.value) == "File is closed"


@pytest.mark.parametrize("framework", ["pt", "np"])
def test_no_device_is_the_host(framework: str, tmp_path: Path) -> None:
    with safe_open(write(tmp_path / "a.safetensors", ONE), framework, None) as f:
        assert str(f.device) == "cpu"


def test_an_unknown_tensor(tmp_path: Path) -> None:
    with safe_open(write(tmp_path / "a.safetensors", ONE), "pt") as f:
        for ask in (f.get_tensor, f.get_slice, f.get_tensor_metadata, lambda name: f.get_tensors(["a", name])):
            with pytest.raises(SafetensorError) as refused:
                ask("b")
            assert str(refused.value) == "File does not contain tensor b"
            with pytest.raises(TypeError) as wrong:
                ask(5)
            assert str(wrong.value) == "name: expected a str, got int"
        for names in ("a", 5):
            with pytest.raises(TypeError) as wrong:
                f.get_tensors(names)  # type: ignore[arg-type]
            assert str(wrong.value) == f"names: expected an iterable of str, got a single {type(names).__name__}"


def test_a_tensor_that_the_filter_leaves_out_is_unknown(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"a": stored("F32", [2]), "b": stored("F32", [2])})
    with safe_open(path, "pt", tensor_filter=["b"]) as f:
        assert "a" not in f
        assert 5 not in f
        with pytest.raises(SafetensorError) as refused:
            f.get_tensor("a")
        assert str(refused.value) == "File does not contain tensor a"


def test_memory_that_is_not_there(tmp_path: Path) -> None:
    size = 1 << 30
    path = raw(
        tmp_path / "large.safetensors",
        json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}),
    )
    os.truncate(path, path.stat().st_size + size)
    small = write(tmp_path / "small.safetensors", ONE)
    out = run(
        """
        import resource, sys
        from instanttensor import safe_open
        with safe_open(sys.argv[2], "pt") as f:
            list(f.tensors())
        with open("/proc/self/statm") as statm:
            mapped = int(statm.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + (300 << 20), resource.RLIM_INFINITY))
        f = safe_open(sys.argv[1], "pt", buffer_size=2 << 30)
        try:
            next(f.tensors())
        except Exception as error:
            print(type(error).__name__, isinstance(error, RuntimeError), error)
        with safe_open(sys.argv[2], "pt") as f:
            print([name for name, _ in f.tensors()])
        """,
        str(path),
        str(small),
    ).splitlines()
    assert re.fullmatch(
        r"OutOfMemoryError True not enough memory on cpu: needed 1073741824 bytes, \d+ of \d+ bytes were free", out[0]
    )
    assert out[1] == "['a']"
