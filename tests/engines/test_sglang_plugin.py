"""``--load-format instanttensor`` on a release of SGLang that has plugins and not this format.

SGLang's own, unmodified code runs here, in processes of their own: its start up to where it would open a port, its
loader on real files. What is made up is the GPU: what our plugin asks CUDA for is noted, then loaded on the CPU.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

OLD, NEW = "sglang-0.5.21", "sglang"
# conftest.py has seen to it that both are there.
ENGINES, MODEL = Path(os.environ["INSTANTTENSOR_TEST_ENGINES"]), Path(os.environ["INSTANTTENSOR_TEST_MODEL"])
# What every script begins with: a start like a scheduler's, and a GPU that is noted and not used.
NO_GPU = """
    import json, sys
    from unittest.mock import patch
    import torch, instanttensor
    from sglang.srt.plugins import load_plugins
    load_plugins()
    asked, safe_open = [], instanttensor.safe_open
    def on_the_cpu(files, **options):
        asked.append({k: str(v) if k == "device" else v for k, v in options.items()} | {"files": len(files)})
        return safe_open(files, **options | {"device": "cpu"})
    instanttensor.safe_open = on_the_cpu
    from sglang.srt.configs.load_config import LoadConfig
    from sglang.srt.model_loader.loader import DefaultModelLoader, get_model_loader
    from sglang.srt.runtime_context import get_context
    def weights(folder, load_format="instanttensor", extra=None, prefix="", has_gpu=True, **config):
        loader = get_model_loader(LoadConfig(load_format, model_loader_extra_config=extra or {}, **config))
        source = DefaultModelLoader.Source(str(folder), None, prefix)
        gpu = patch.multiple(torch.cuda, is_available=lambda: has_gpu, current_device=lambda: 3)
        with get_context().override_server_args(), gpu:
            return list(loader._get_weights_iterator(source))
    def refusal(*arguments, **options):
        try:
            return weights(*arguments, **options) and "was taken"
        except Exception as e:
            return f"{type(e).__name__}: {e}"
    def same(folder):
        ours, theirs = weights(folder), dict(weights(folder, "safetensors"))
        assert len(ours) == len(theirs) and all(t.dtype == theirs[n].dtype for n, t in ours)
        return all(torch.equal(t, theirs[n]) for n, t in ours)
"""


def sglang(
    release: str, script: str, *arguments: object, status: int = 0, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Runs a script with a release of SGLang on its path."""
    path = os.pathsep.join([str(ENGINES / release), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONPATH": path, **variables},
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def answers(release: str, script: str, *arguments: object) -> Any:
    """What a script prints last, as JSON."""
    done = sglang(release, textwrap.dedent(NO_GPU) + textwrap.dedent(script), *arguments)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def model() -> Path:
    folder = Path(os.environ.get("INSTANTTENSOR_TEST_MODEL", MODEL))
    if not (folder / "model.safetensors").is_file():
        pytest.fail(f"{folder} holds no model.safetensors: `make test` fetches it")
    return folder


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files with an index, and one beside them that the index does not name."""
    folder = tmp_path_factory.mktemp("several")
    where = {}
    for i, dtype in enumerate([torch.float32, torch.bfloat16, torch.float8_e4m3fn]):
        tensors = {f"model.mtp.layers.{i}.{n}": torch.randn(5, n + 1).to(dtype) for n in range(4)} | {
            f"empty.{i}": torch.empty(0, 3, dtype=dtype)
        }
        save_file(tensors, folder / f"model-{i}.safetensors")
        where |= {name: f"model-{i}.safetensors" for name in tensors}
    save_file({"a.duplicate": torch.ones(1)}, folder / "consolidated.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return folder


# --------------------------------------------------------------------------------------- its start


SERVER_SCRIPT = """
    import json, runpy, sys, types
    started = types.ModuleType("sglang.srt.entrypoints.http_server")
    def launch_server(server_args, *_, **__):
        from sglang.srt.plugins.hook_registry import HookRegistry
        hooked = sorted(HookRegistry._patched)
        print(json.dumps([server_args.load_format, json.loads(server_args.model_loader_extra_config), hooked]))
    started.launch_server = launch_server
    sys.modules[started.__name__] = started
    sys.argv = [sys.argv[1], *sys.argv[2].split(), "--model-path", sys.argv[3], *sys.argv[4:]]
    ran = runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    if "main" in ran:
        ran["main"]()
"""
FLAGS = ("--device", "cpu", "--load-format", "instanttensor", "--model-loader-extra-config", '{"concurrency": 2}')


def test_the_wheel_names_one_plugin() -> None:
    (entry,) = entry_points(group="sglang.srt.plugins", name="instanttensor")
    assert entry.value == "instanttensor._sglang_plugin:register"
    assert callable(entry.load())


def test_the_release_itself_has_no_such_format(model: Path) -> None:
    arguments = ("sglang.launch_server", "", model, *FLAGS)
    done = sglang(OLD, SERVER_SCRIPT, *arguments, status=2, SGLANG_PLUGINS="none")
    assert "error: argument --load-format: invalid choice: 'instanttensor' (choose from" in done.stderr


@pytest.mark.parametrize(("module", "command"), [("sglang.launch_server", ""), ("sglang.cli.main", "serve")])
def test_a_server_starts_with_it_and_its_loader_is_not_touched_yet(module: str, command: str, model: Path) -> None:
    done = sglang(OLD, SERVER_SCRIPT, module, command, model, *FLAGS)
    hooked = ["sglang.srt.configs.load_config.LoadConfig._verify_load_format"]
    assert json.loads(done.stdout.splitlines()[-1]) == ["instanttensor", {"concurrency": 2}, hooked]


# --------------------------------------------------------------------------------------- its loader


@pytest.fixture(scope="module")
def loaded(model: Path, several: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All that is asked of the old release's loader, in one process: it takes half a minute to start."""
    torch_only = tmp_path_factory.mktemp("torch-only")
    torch.save({"a": torch.ones(2)}, torch_only / "model.pt")
    script = """
        model, several, torch_only = sys.argv[1:]
        said = {"model is the same": same(model), "several files are the same": same(several)}
        said["calls"] = list(asked)
        extra = {"concurrency": 3, "io_depth": 8, "chunk_size": 65536, "backend": ["AIO", "MMAP"]}
        weights(several, extra=extra)
        said["with options"] = asked.pop()
        weights(several, extra=json.dumps(extra))
        said["with options as text"] = asked.pop()
        said["upper case"] = len(weights(several, "InstantTensor"))
        said["unknown option"] = refusal(several, extra={"no_such_key": 1})
        said["bad backend"] = refusal(several, extra={"backend": "NOPE"})
        said["no safetensors"] = refusal(torch_only)
        said["unknown format"] = refusal(several, "no_such_format")
        said["their option"] = refusal(several, "safetensors", {"no_such_key": 1})
        said["prefix"] = sorted(n for n, _ in weights(several, prefix="draft."))[0]
        layer = weights(several, draft_model_idx=1)
        said["layer"] = sorted(n for n, _ in layer)
        from sglang.srt.model_loader import loader
        theirs = loader.safetensors_weights_iterator.__wrapped__
        with patch.object(loader, "safetensors_weights_iterator", theirs):
            said["another release"] = refusal(several)
        said["no gpu"] = refusal(several, has_gpu=False)
        print(json.dumps(said))
    """
    result: dict[str, Any] = answers(OLD, script, model, several, torch_only)
    return result


def test_its_loader_yields_what_its_safetensors_path_yields(loaded: dict[str, Any]) -> None:
    assert loaded["model is the same"] and loaded["several files are the same"]


def test_it_asks_for_copies_on_the_current_gpu_and_only_for_its_own_format(loaded: dict[str, Any]) -> None:
    call = {"framework": "pt", "device": "cuda:3", "process_group": None, "copy": True}
    assert loaded["calls"] == [{**call, "files": 1}, {**call, "files": 3}]


def test_options_arrive_as_keywords(loaded: dict[str, Any]) -> None:
    options = {"concurrency": 3, "io_depth": 8, "chunk_size": 65536, "backend": ["AIO", "MMAP"]}
    assert {k: v for k, v in loaded["with options"].items() if k in options} == options
    assert loaded["with options as text"] == loaded["with options"]


def test_what_it_does_not_know_is_refused(loaded: dict[str, Any]) -> None:
    assert loaded["unknown option"] == (
        "TypeError: safe_open.__init__() got an unexpected keyword argument 'no_such_key'"
    )
    assert loaded["bad backend"].startswith("ValueError: backend='NOPE': expected one of AIO, ")
    assert loaded["no safetensors"].startswith("ValueError: load format instanttensor reads .safetensors files only, ")
    assert loaded["no gpu"] == "ValueError: load format instanttensor loads into CUDA GPUs, and torch finds none here"


def test_other_formats_are_judged_by_sglang_as_before(loaded: dict[str, Any]) -> None:
    assert loaded["unknown format"] == "ValueError: 'no_such_format' is not a valid LoadFormat"
    assert loaded["their option"] == (
        "ValueError: Unexpected extra config keys for load format LoadFormat.SAFETENSORS: {'no_such_key'}"
    )
    assert loaded["upper case"] == 15


def test_a_release_that_it_does_not_fit_is_told_apart_from_one_that_it_does(loaded: dict[str, Any]) -> None:
    assert loaded["another release"] == (
        "RuntimeError: instanttensor's plugin does not fit this release of SGLang: it does not read safetensors files "
        "the way that 0.5.11 to 0.5.21 do. Use another --load-format"
    )


def test_prefixes_and_layers_stay_sglangs(loaded: dict[str, Any]) -> None:
    assert loaded["prefix"] == "draft.empty.0"
    assert loaded["layer"] == [f"empty.{i}" for i in range(3)] + [f"model.mtp.layers.0.{n}" for n in range(4)]


@pytest.mark.parametrize(("stages", "group"), [(1, [True, 2]), (2, None)])
def test_ranks_load_together_within_a_stage_of_the_pipeline(stages: int, group: object, several: Path) -> None:
    script = """
        folder, stages, port, rank = sys.argv[1], *map(int, sys.argv[2:])
        from sglang.srt.distributed import parallel_state as p
        from sglang.srt.distributed.device_communicators import pynccl
        pynccl.PyNcclCommunicator = lambda **_: None
        p.init_distributed_environment(2, rank, f"tcp://127.0.0.1:{port}", local_rank=rank, backend="gloo")
        with get_context().override_server_args(tp_size=2 // stages, pp_size=stages):
            p.initialize_model_parallel(backend="gloo")
        assert same(folder)
        group = asked.pop()["process_group"]
        print(json.dumps(group and [group is p.get_world_group().device_group, group.size()]))
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ThreadPoolExecutor(2) as ranks:
        said = list(ranks.map(lambda rank: answers(OLD, script, several, stages, port, rank), range(2)))
    assert said == [group] * 2


# ---------------------------------------------------------------------------- releases that have it


def test_another_plugins_hooks_in_the_same_places_stay_and_ours_are_added(several: Path) -> None:
    other = """
        from sglang.srt.plugins.hook_registry import HookRegistry, HookType
        loader, passed = "sglang.srt.model_loader.loader.", []
        def other(name):
            return lambda f, *a, **k: passed.append(name) or f(*a, **k)
        for name in ("DefaultModelLoader.__init__", "DefaultModelLoader._get_weights_iterator",
                     "safetensors_weights_iterator"):
            HookRegistry.register(loader + name, other(name), HookType.AROUND)
    """
    script = """
        ours = weights(sys.argv[1], extra={"concurrency": 2})
        print(json.dumps([len(asked), asked[0]["concurrency"], len(ours), sorted(set(passed))]))
    """
    done = sglang(OLD, textwrap.dedent(other) + textwrap.dedent(NO_GPU) + textwrap.dedent(script), several)
    hooked = ["DefaultModelLoader.__init__", "DefaultModelLoader._get_weights_iterator"]
    assert json.loads(done.stdout.splitlines()[-1]) == [1, 2, 15, hooked]


def test_a_release_with_the_format_stays_as_it_is() -> None:
    script = """
        from sglang.srt.plugins.hook_registry import HookRegistry
        from sglang.srt.server_args import LOAD_FORMAT_CHOICES
        config = LoadConfig("instanttensor")
        hooks = [*HookRegistry._hooks, *HookRegistry._patched]
        said = [type(config.load_format).__name__, LOAD_FORMAT_CHOICES.count("instanttensor"), hooks]
        print(json.dumps(said + ["instanttensor._sglang_plugin" in sys.modules]))
    """
    assert answers(NEW, script) == ["LoadFormat", 1, [], True]
