"""What SGLang's scheduler processes do in test_sglang_models.py: two, started by spawn as SGLang starts them.

Each one enables faulthandler and publishes a configuration, as SGLang's does, and goes through the cases. They are a
world of two over gloo first; then each is alone, with cases of its own. A case answers something that JSON can
hold, which the test compares. What runs is SGLang's `ModelRunner`: its loader, model, KV pool, attention in torch, and
weight updater.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import hashlib
import json
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import instanttensor
import sglang_engine as engine
import torch
from rank_worlds import error
from safetensors.torch import load_file
from samples import reading, threads
from sglang.srt.configs.device_config import DeviceConfig
from sglang.srt.configs.model_config import ModelConfig
from sglang.srt.distributed import bootstrap
from sglang.srt.distributed.parallel_state import destroy_distributed_environment, destroy_model_parallel
from sglang.srt.environ import envs
from sglang.srt.layers.rotary_embedding import base as rotary
from sglang.srt.model_executor.forward_batch_info import ForwardBatch, ForwardMode
from sglang.srt.model_executor.model_runner import ModelRunner
from sglang.srt.model_loader import utils as loader_utils
from sglang.srt.runtime_context import SpawnRanks, get_model, get_parallel, publish, reset_context
from sglang.srt.server_args import prepare_server_args
from sglang_checkpoints import EXPERTS

WORLD = 2
Case = Callable[["Scheduler"], Any]
TOGETHER: dict[str, Case] = {}
ALONE: tuple[dict[str, Case], dict[str, Case]] = ({}, {})

def together(case: Case) -> Case:
    TOGETHER[case.__name__] = case
    return case


def alone(rank: int) -> Callable[[Case], Case]:
    def keep(case: Case) -> Case:
        ALONE[rank][case.__name__] = case
        return case

    return keep


class Scheduler:
    """One scheduler process: its configuration, its groups, and what SGLang opened through us."""

    def __init__(self, rank: int, folder: Path, minilm: Path) -> None:
        self.rank, self.folder, self.minilm = rank, folder, minilm
        self.opened: list[dict[str, Any]] = []

    def configure(self, world: int, port: int, model: Path, *flags: str) -> None:
        """As SGLang's scheduler does: parse, publish, build the groups."""
        self.args = prepare_server_args([
            "--model-path", str(model), "--load-format", "instanttensor", "--device", "cpu", "--dtype", "auto",
            "--tensor-parallel-size", str(world), "--max-total-tokens", "256", "--max-running-requests", "4",
            "--attention-backend", "torch_native", *flags,
        ])  # fmt: skip
        self.args.resolve_once()
        rank = self.rank if world > 1 else 0
        publish(self.args, role="scheduler", ranks=SpawnRanks(world_rank=rank, gpu_id=rank))
        self.config = ModelConfig.from_server_args(self.args)
        bootstrap.init_parallel_runtime(server_args=self.args, device="cpu", dist_port=port)
        bootstrap.init_layer_runtime(model_config=self.config)

    def end(self) -> None:
        destroy_model_parallel()
        destroy_distributed_environment()
        reset_context()

    def runner(self, load_format: str = "instanttensor") -> Any:
        """SGLang's runner, ready for a forward pass."""
        with get_model().override(load_format=load_format):
            runner = ModelRunner(
                model_config=self.config, mem_fraction_static=0.5, gpu_id=0, nccl_port=0, server_args=self.args
            )
        runner.alloc_memory_pool()
        runner.init_attention_backends()
        runner.init_cuda_graphs()
        return runner

    @contextmanager
    def watched(self) -> Iterator[list[dict[str, Any]]]:
        """What SGLang opens through us meanwhile: files, group, and how much of them this rank read."""
        calls: list[dict[str, Any]] = []

        class Watched(instanttensor.safe_open):
            def __init__(self, filename: Any, *, process_group: Any, **options: Any) -> None:
                super().__init__(filename, process_group=process_group, **options)
                members = process_group and torch.distributed.get_process_group_ranks(process_group)
                backend = process_group and torch.distributed.get_backend(process_group)
                calls.append({"files": [Path(path).name for path in filename], "ranks": members, "backend": backend})

            def __exit__(self, *error: object) -> None:
                stats = self.stats()
                calls[-1] |= {"bytes": stats["bytes"], "read_bytes": stats["read_bytes"]}
                super().__exit__(*error)

        with mock.patch.object(instanttensor, "safe_open", Watched):
            yield calls


def embeddings(runner: Any) -> torch.Tensor:
    """Two sentences of four tokens through the whole model: `ModelRunner.forward`, one batch."""
    lengths = torch.tensor([4, 4])
    pool = runner.req_to_token_pool.req_to_token
    pool[1, :4], pool[2, :4] = torch.arange(1, 5), torch.arange(5, 9)
    batch = ForwardBatch(
        forward_mode=ForwardMode.EXTEND,
        batch_size=2,
        input_ids=torch.tensor([101, 7592, 2088, 102, 101, 2023, 2003, 102]),
        req_pool_indices=torch.tensor([1, 2]),
        seq_lens=lengths,
        out_cache_loc=torch.arange(1, 9),
        seq_lens_sum=8,
    )
    batch.positions = torch.arange(4).repeat(2)
    batch.seq_lens_cpu = batch.extend_seq_lens = lengths
    batch.extend_prefix_lens = torch.zeros(2, dtype=torch.int64)
    batch.extend_num_tokens = 8
    batch.extend_seq_lens_cpu, batch.extend_prefix_lens_cpu = [4, 4], [0, 0]
    found: torch.Tensor = runner.forward(batch).logits_output.embeddings
    assert found.shape == (2, 384)
    # Of length 1, so neither zeros nor NaN.
    assert torch.allclose(found.float().norm(dim=1), torch.ones(2), atol=1e-2)
    return found


def digest(tensors: Any) -> str:
    """Of names, types, shapes and bytes."""
    found = hashlib.sha256()
    for name, (dtype, shape, data) in sorted(engine.seen(tensors).items()):
        found.update(f"{name} {dtype} {shape}".encode() + data)
    return found.hexdigest()


def parameters(model: torch.nn.Module) -> str:
    return digest((name, parameter.data) for name, parameter in model.named_parameters())


# ----------------------------------------------------------------------------------- two ranks


@together
def a_model_in_two_parts(scheduler: Scheduler) -> Any:
    with scheduler.watched() as calls:
        ours = scheduler.runner()
    theirs = scheduler.runner("safetensors")
    return {
        "calls": calls,
        "model": type(ours.model).__name__,
        "rows": ours.model.embeddings.word_embeddings.weight.shape[0],
        "same parameters": parameters(ours.model) == parameters(theirs.model),
        "same embeddings": torch.equal(embeddings(ours), embeddings(theirs)),
        "parameters": parameters(ours.model),
        "embeddings": digest([("of", embeddings(ours))]),
    }


@together
def all_types_from_several_files(scheduler: Scheduler) -> Any:
    return several_files(scheduler, stagger=0)


@together
def each_rank_starts_with_another_file(scheduler: Scheduler) -> Any:
    return several_files(scheduler, stagger=1)


@together
def each_rank_starts_with_another_pair_of_files(scheduler: Scheduler) -> Any:
    return several_files(scheduler, stagger=2)


def several_files(scheduler: Scheduler, stagger: int) -> Any:
    folder = scheduler.folder / "shards"
    with envs.SGLANG_SORT_WEIGHT_FILES.override(stagger), scheduler.watched() as calls:
        ours = digest(engine.weights(engine.loader(), folder))
    return {"calls": calls, "same": ours == digest(engine.weights(engine.loader("safetensors"), folder))}


@together
def one_rank_loads_without_the_other(scheduler: Scheduler) -> Any:
    # As a draft model's worker that exists on one stage of a pipeline only.
    if scheduler.rank == 0:
        return "not asked to"
    folder = scheduler.folder / "shards"
    with scheduler.watched() as calls:
        ours = digest(engine.weights(engine.loader(load_group=None), folder))
    return {"calls": calls, "same": ours == digest(engine.weights(engine.loader("safetensors"), folder))}


@together
def a_broken_file(scheduler: Scheduler) -> Any:
    return error(lambda: dict(engine.weights(engine.loader(), scheduler.folder / "broken")))


@together
def an_unknown_option(scheduler: Scheduler) -> Any:
    return error(lambda: dict(engine.weights(engine.loader(extra={"threads": 3}), scheduler.folder / "shards")))


# ---------------------------------------------------------------------------- one rank, updates


@alone(0)
def updates(scheduler: Scheduler) -> Any:
    """A server's life: a model, another one's weights from disk, a broken update, and back."""
    first, second, broken = scheduler.minilm, scheduler.folder / "other", scheduler.folder / "broken"
    runner, reference = scheduler.runner(), scheduler.runner("safetensors")
    answers: dict[str, Any] = {}

    def update(which: Any, path: Path, load_format: str) -> Any:
        return list(which.weight_updater.update_weights_from_disk(str(path), load_format))

    def same() -> list[bool]:
        equal = parameters(runner.model) == parameters(reference.model)
        return [equal, torch.equal(embeddings(runner), embeddings(reference))]

    at_first = embeddings(runner)
    answers["loaded"] = same()

    answers["updated"] = [update(runner, second, "instanttensor"), update(reference, second, "safetensors"), same()]
    changed = embeddings(runner)
    answers["changed"] = not torch.equal(at_first, changed)

    # SGLang rolls back by reading the same folder again, so the second error is what its caller sees.
    kept = parameters(runner.model)
    answers["broken"] = error(lambda: update(runner, broken, "instanttensor"))
    answers["kept"] = [parameters(runner.model) == kept, torch.equal(embeddings(runner), changed)]

    answers["back"] = [update(runner, first, "instanttensor"), update(reference, first, "safetensors"), same()]
    answers["as at first"] = torch.equal(embeddings(runner), at_first)

    # A failure in the middle that does not come again: SGLang leaves our iterator and starts another.
    answers["interrupted"] = [interrupted(runner, second), same()]
    answers["after it"] = [update(reference, second, "safetensors"), same()]
    answers["descriptors"] = reading(second) + reading(first)
    return answers


def interrupted(runner: Any, folder: Path) -> Any:
    """An update whose first attempt fails at the 20th tensor."""
    load_weights, attempts = runner.model.load_weights, []

    def failing(weights: Iterator[Any]) -> None:
        attempts.append(len(attempts))
        if len(attempts) == 1:
            for number, _ in enumerate(weights):
                if number == 19:
                    raise RuntimeError("no room for it")
        load_weights(weights)

    with mock.patch.object(runner.model, "load_weights", failing):
        answer = runner.weight_updater.update_weights_from_disk(str(folder), "instanttensor")
    return [*answer, len(attempts)]


@alone(0)
def many_loads(scheduler: Scheduler) -> Any:
    """Loads as a fine-tuning run makes them: threads and descriptors stay as many as they were."""
    runner = scheduler.runner()
    found = []
    for number in range(6):
        folder = scheduler.folder / "other" if number % 2 else scheduler.minilm
        runner.weight_updater.update_weights_from_disk(str(folder), "instanttensor")
        gc.collect()
        found.append([parameters(runner.model)[:8], len(threads()), len(os.listdir("/proc/self/fd"))])
    return found[2:]


# ---------------------------------------------------------------------------- one rank, experts


@alone(1)
def experts_by_threads(scheduler: Scheduler) -> Any:
    """SGLang's DeepSeek V2, whose `load_weights` hands tensors to a pool of threads while it takes the next."""
    folder, loaded = scheduler.folder / "deepseek", {}
    scheduler.end()
    scheduler.configure(1, free_port(), folder, "--skip-tokenizer-init", "--disable-shared-experts-fusion")
    submitted: list[bool] = []
    submit = loader_utils.maybe_executor_submit

    def counted(**call: Any) -> None:
        submitted.append(call["use_async"])
        submit(**call)

    from sglang.srt.models.deepseek_common import deepseek_weight_loader

    # Its positions ask for a kernel wherever they do not know the machine for a CPU.
    with (
        mock.patch.object(rotary, "_is_cpu", True),
        mock.patch.object(deepseek_weight_loader, "maybe_executor_submit", counted),
    ):
        for load_format, extra in (
            ("safetensors", {}),
            ("instanttensor", {}),
            # Slabs of two tensors: they go and come while the threads copy.
            ("instanttensor", {"buffer_size": 16384, "chunk_size": 4096, "concurrency": 4}),
        ):
            model = engine.loader(load_format, extra).load_model(
                model_config=scheduler.config, device_config=DeviceConfig("cpu")
            )
            loaded[f"{load_format} {sorted(extra)}"] = parameters(model)
    source = {}
    for path in folder.glob("*.safetensors"):
        source |= load_file(path)
    gate_and_up = dict(model.named_parameters())["model.layers.1.mlp.experts.w13_weight"].data
    prefix = "model.layers.1.mlp.experts"
    right = [
        torch.equal(
            gate_and_up[n], torch.cat([source[f"{prefix}.{n}.{name}.weight"] for name in ("gate_proj", "up_proj")])
        )
        for n in range(EXPERTS)
    ]
    return {
        "model": type(model).__name__,
        "loads": list(loaded),
        "same": len(set(loaded.values())) == 1,
        "right": right,
        "by threads": [all(submitted), len(submitted)],
    }


# --------------------------------------------------------------------------------- the processes


def free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def live(rank: int, port: int, folder: Path, minilm: Path) -> None:
    """A scheduler process, from its start to its end; rank 1's ends by a fault of its own."""
    # Enabled by whoever started this process; and once more at the end.
    assert faulthandler.is_enabled()
    # Two ranks on one NUMA node need to be told where they may run; and NCCL, of which torch brings the library,
    # not to be tried.
    os.environ |= {"SGLANG_CPU_OMP_THREADS_BIND": "|".join(["0"] * WORLD), "SGLANG_NCCL_SO_PATH": "none"}
    answers: dict[str, Any] = {}
    scheduler = Scheduler(rank, folder, minilm)
    with engine.as_on_a_gpu():
        scheduler.configure(WORLD, port, minilm, "--is-embedding")
        answers["parallel"] = [get_parallel().tp_rank, get_parallel().tp_size, torch.distributed.get_backend()]
        go_through(TOGETHER, scheduler, answers)
        scheduler.end()
        scheduler.configure(1, free_port(), minilm, "--is-embedding")
        go_through(ALONE[rank], scheduler, answers)
    (folder / f"answers.{rank}.json").write_text(json.dumps(answers))
    faulthandler.enable()
    if rank == 1:
        os.chdir(folder)
        culprit()


def go_through(cases: dict[str, Case], scheduler: Scheduler, answers: dict[str, Any]) -> None:
    for name, case in cases.items():
        try:
            answers[name] = case(scheduler)
        except Exception:
            answers[name] = traceback.format_exc()


def culprit() -> None:
    ctypes.string_at(0)
