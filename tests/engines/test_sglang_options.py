"""What --model-loader-extra-config brings to us, through SGLang's own parsing and checks."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import instanttensor
import pytest
import sglang_checkpoints as checkpoints
import sglang_engine as engine
from sglang.srt.configs.load_config import LoadConfig, LoadFormat
from sglang.srt.model_loader.loader import get_model_loader
from sglang.srt.runtime_context import get_model, publish, reset_context
from sglang.srt.server_args import ServerArgs, prepare_server_args

# One value or more of every keyword that SGLang leaves to us.
OPTIONS: dict[str, list[Any]] = {
    "buffer_size": [1 << 20, None],
    "chunk_size": [4096, 1 << 26],
    "concurrency": [0, 1, 8],
    "io_depth": [1, 64],
    "max_free_mem_usage": [0.1, 1],
    "load_now": [True, False],
    "backend": [
        "AIO", "URING", "MMAP", "AIO_BUFFERED", "URING_BUFFERED", "BUFFERED",
        ["CUFILE", "AIO"], ["URING", "BUFFERED"], ["BUFFERED"],
    ],
    "tensor_filter": [["scalar.*", "empty.F32"], [], None],
    "tensor_name_match_mode": ["glob", "exact", "regex"],
    "progress": [False],
    "read_once_per": ["group", "node"],
}  # fmt: skip
# SGLang gives these itself.
SGLANGS = {"self", "filename", "framework", "device", "process_group", "copy"}
EACH = [(key, value) for key, values in OPTIONS.items() for value in values]


@pytest.fixture(autouse=True)
def host() -> Iterator[None]:
    with engine.published(), engine.as_on_a_gpu():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.shards(tmp_path_factory.mktemp("options"))


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, engine.Seen]:
    with engine.published():
        return engine.by_safetensors(folder)


@pytest.fixture
def arrived(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The keywords of the last call of ours, and what its stats() said at the end."""
    found: dict[str, Any] = {}

    class Arrived(instanttensor.safe_open):
        def __init__(self, filename: Any, **options: Any) -> None:
            super().__init__(filename, **options)
            found.update(options)

        def __exit__(self, *error: object) -> None:
            found["stats"] = self.stats()
            super().__exit__(*error)

    monkeypatch.setattr(instanttensor, "safe_open", Arrived)
    return found


def load(folder: Path, extra: dict[str, Any]) -> dict[str, engine.Seen]:
    """As from the command line: as JSON."""
    return engine.seen(engine.weights(engine.loader(extra=json.dumps(extra)), folder))


def refused(folder: Path, extra: dict[str, Any], kind: type[Exception]) -> str:
    with pytest.raises(kind) as caught:
        load(folder, extra)
    return str(caught.value)


def test_no_keyword_of_ours_is_left_out_here() -> None:
    assert set(inspect.signature(instanttensor.safe_open.__init__).parameters) == SGLANGS | set(OPTIONS)


@pytest.mark.parametrize(("key", "value"), EACH, ids=[f"{key}={value}" for key, value in EACH])
def test_every_option_arrives_and_loads(
    key: str, value: Any, folder: Path, expected: dict[str, engine.Seen], arrived: dict[str, Any]
) -> None:
    found = load(folder, {key: value})
    if key == "backend":
        names = [value] if isinstance(value, str) else value
        members = {**instanttensor.Backend.__members__, **instanttensor.BackendPolicy.__members__}
        assert arrived[key] == [members[name] for name in names]
    else:
        assert arrived[key] == value
    if key == "tensor_filter" and value is not None:
        expected = {name: t for name, t in expected.items() if value and re.match(r"scalar\.|empty\.F32$", name)}
    assert found == expected


def test_options_that_can_be_seen_have_their_effect(folder: Path, arrived: dict[str, Any]) -> None:
    load(folder, {"buffer_size": 900_000, "backend": "BUFFERED"})
    assert arrived["stats"]["buffer_bytes"] == 900_000
    assert {file["mode"] for file in arrived["stats"]["files"]} == {"buffered"}
    assert {file["backend"] for file in arrived["stats"]["files"]} <= {"URING_BUFFERED", "MMAP", "AIO_BUFFERED"}


@pytest.mark.parametrize(
    ("mode", "patterns", "names"),
    [
        ("exact", ["scalar.F32", "scalar.*"], ["scalar.F32"]),
        ("glob", ["scalar.F3?"], ["scalar.F32"]),
        ("regex", [r"scalar\.B.*"], ["scalar.BF16", "scalar.BOOL"]),
    ],
)
def test_a_filter_is_read_as_its_mode_says(mode: str, patterns: list[str], names: list[str], folder: Path) -> None:
    assert sorted(load(folder, {"tensor_filter": patterns, "tensor_name_match_mode": mode})) == names


def test_progress_shows_a_bar_of_ours_beside_sglangs(
    folder: Path, expected: dict[str, engine.Seen], capfd: pytest.CaptureFixture[str]
) -> None:
    assert load(folder, {"progress": True}) == expected
    shown = capfd.readouterr().err
    assert "Loading safetensors using InstantTensor: 100%" in shown
    assert "B/s" in shown


def test_several_options_at_once(folder: Path, expected: dict[str, engine.Seen], arrived: dict[str, Any]) -> None:
    extra = {"buffer_size": 2 << 20, "chunk_size": 1 << 18, "concurrency": 3, "io_depth": 6, "backend": ["AIO", "MMAP"]}
    assert load(folder, extra) == expected
    backends = [instanttensor.Backend.AIO, instanttensor.Backend.MMAP]
    assert {key: arrived[key] for key in extra} == {**extra, "backend": backends}


@pytest.mark.parametrize("key", ["threads", "Buffer_size", "enable_multithread_load", "num_threads", "enable_gds"])
def test_an_unknown_key_is_named(key: str, folder: Path) -> None:
    message = refused(folder, {key: 1}, TypeError)
    assert message.endswith(f"__init__() got an unexpected keyword argument '{key}'")


@pytest.mark.parametrize("key", ["framework", "device", "process_group", "copy"])
def test_a_key_that_sglang_gives_itself_is_named(key: str, folder: Path) -> None:
    message = refused(folder, {key: None}, TypeError)
    assert message.endswith(f"safe_open() got multiple values for keyword argument '{key}'")


NAMES = "['AIO', 'AIO_BUFFERED', 'BUFFERED', 'CUFILE', 'MMAP', 'URING', 'URING_BUFFERED']"


@pytest.mark.parametrize("backend", ["aio", "GDS", "", ["AIO", "GDS"], ["AIO", 3]])
def test_a_bad_backend_is_sglangs_error_with_our_names(backend: Any, folder: Path) -> None:
    assert refused(folder, {"backend": backend}, ValueError) == (
        f"Invalid InstantTensor backend {backend!r}; expected names from {NAMES}"
    )


@pytest.mark.parametrize("backend", [[], 3, {"AIO": 1}])
def test_a_backend_of_the_wrong_type_is_sglangs_error(backend: Any, folder: Path) -> None:
    message = "InstantTensor backend must be a name or a non-empty list of names"
    assert refused(folder, {"backend": backend}, ValueError) == message


@pytest.mark.parametrize(
    ("key", "value", "kind", "message"),
    [
        ("buffer_size", "1GB", TypeError, "buffer_size: expected an int, got str"),
        ("buffer_size", 0, ValueError, "buffer_size=0: expected at least 1"),
        ("chunk_size", 1.5, TypeError, "chunk_size: expected an int, got float"),
        ("chunk_size", 1 << 31, ValueError, "chunk_size=2147483648: expected 1 to 1073741824"),
        ("concurrency", True, TypeError, "concurrency: expected an int, got bool"),
        ("concurrency", -1, ValueError, "concurrency=-1: expected at least 0"),
        ("io_depth", [4], TypeError, "io_depth: expected an int, got list"),
        ("io_depth", -1, ValueError, "io_depth=-1: expected 1 to 1024"),
        ("max_free_mem_usage", "half", TypeError, "max_free_mem_usage: expected a float, got str"),
        ("max_free_mem_usage", 1.5, ValueError, "max_free_mem_usage=1.5: expected more than 0 and at most 1"),
        ("load_now", "yes", TypeError, "load_now: expected a bool, got str"),
        ("tensor_filter", "lm_head.weight", TypeError, "tensor_filter: expected a list of str, got a single str"),
        ("tensor_filter", [1], TypeError, "tensor_filter: expected a list of str, found a int in it"),
        ("tensor_name_match_mode", "fnmatch", ValueError,
         "tensor_name_match_mode='fnmatch': expected one of glob, exact, regex"),
        ("progress", "bar", TypeError, "progress: expected False, True or a callable, got str"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_its_key(
    key: str, value: Any, kind: type[Exception], message: str, folder: Path
) -> None:
    assert refused(folder, {key: value}, kind) == message


def test_the_variables_hold_where_the_server_says_nothing(
    folder: Path, arrived: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INSTANTTENSOR_BUFFER_SIZE", "800000")
    monkeypatch.setenv("INSTANTTENSOR_BACKEND", "MMAP")
    load(folder, {})
    assert arrived["stats"]["buffer_bytes"] == 800_000
    assert {file["backend"] for file in arrived["stats"]["files"]} == {"MMAP"}
    load(folder, {"buffer_size": 700_000, "backend": "AIO_BUFFERED"})
    assert arrived["stats"]["buffer_bytes"] == 700_000
    assert {file["backend"] for file in arrived["stats"]["files"]} == {"AIO_BUFFERED"}


# ----------------------------------------------------------------------------- the command line


def parsed(model: Path, device: str, extra: str) -> ServerArgs:
    """What SGLang's server makes of its command line, as far as it goes without one."""
    arguments = prepare_server_args([
        "--model-path", str(model), "--device", device, "--load-format", "instanttensor",
        "--model-loader-extra-config", extra,
    ])  # fmt: skip
    arguments.resolve_once()
    return arguments


def test_the_command_line_brings_the_options_to_us(
    minilm: Path, folder: Path, expected: dict[str, engine.Seen], arrived: dict[str, Any]
) -> None:
    arguments = parsed(minilm, "cuda", '{"buffer_size": 1048576, "backend": ["URING", "BUFFERED"]}')
    arguments.check_server_args()
    try:
        publish(arguments, role="scheduler")
        config = LoadConfig(
            load_format=get_model().load_format, model_loader_extra_config=get_model().model_loader_extra_config
        )
        assert config.load_format is LoadFormat.INSTANTTENSOR
        assert engine.seen(engine.weights(get_model_loader(config), folder)) == expected
    finally:
        reset_context()
    assert arrived["buffer_size"] == 1048576
    assert arrived["backend"] == [instanttensor.Backend.URING, instanttensor.BackendPolicy.BUFFERED]


def test_a_server_without_cuda_is_refused_before_it_loads(minilm: Path) -> None:
    arguments = parsed(minilm, "cpu", "{}")
    with pytest.raises(ValueError) as caught:
        arguments.check_server_args()
    message = "InstantTensor requires a CUDA-compatible device (including CUDA and ROCm); got 'cpu'."
    assert str(caught.value) == message


def test_options_that_are_no_json_are_sglangs_error() -> None:
    with pytest.raises(json.JSONDecodeError):
        engine.loader(extra="{buffer_size: 1}")


def test_the_format_is_among_the_choices_of_the_command_line(
    minilm: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["launch_server"])
    with pytest.raises(SystemExit):
        prepare_server_args(["--model-path", str(minilm), "--load-format", "instant"])
    assert "'instanttensor'" in capsys.readouterr().err
