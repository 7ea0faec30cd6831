"""SGLang's `ModelRunner` with our format: whole models, on two ranks and on one, updated from disk as servers are.

The runner, its loader, the models, the KV pool, the attention (`--attention-backend torch_native`) and the groups
over gloo are SGLang's, unmodified; what is missing on such a machine are its kernels, and HTTP. MiniLM runs as SGLang's
`BertModel`, from tokens to normalised embeddings. DeepSeek V2, for its experts, is built and loaded, not run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sglang_checkpoints as checkpoints
from safetensors import safe_open
from samples import run
from sessions import outcome

PATIENCE_S = 400
Answers = tuple[dict[str, Any], dict[str, Any]]

# Started by spawn, as SGLang starts its schedulers; faulthandler comes on behind the imports, as there: one of them
# (apache-tvm-ffi) brings a handler of its own.
RUN = """
import sys

def scheduler(*arguments):
    import faulthandler
    import sglang_ranks
    faulthandler.enable()
    sglang_ranks.live(*arguments)

if __name__ == "__main__":
    import multiprocessing, socket
    from pathlib import Path
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    arguments = (port, Path(sys.argv[1]), Path(sys.argv[2]))
    ranks = [context.Process(target=scheduler, args=(rank, *arguments)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    print([rank.exitcode for rank in ranks])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sglang")


@pytest.fixture(scope="module")
def ended(folder: Path, minilm: Path, engines: Path) -> subprocess.CompletedProcess[str]:
    """The ranks' processes, over."""
    checkpoints.write_checkpoints(folder, minilm)
    script = folder / "run.py"
    script.write_text(RUN)
    here = Path(__file__).parent
    return outcome(
        [sys.executable, str(script), str(folder), str(minilm)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (engines / "sglang", here, here.parent)))},
        patience_s=PATIENCE_S,
    )


@pytest.fixture(scope="module")
def answers(ended: subprocess.CompletedProcess[str], folder: Path) -> Answers:
    """What each rank answered, by case."""
    paths = [folder / f"answers.{rank}.json" for rank in range(2)]
    if not all(path.exists() for path in paths):
        pytest.fail(f"a rank ended too early: {ended.stdout}{ended.stderr[-5000:]}")
    first, second = (json.loads(path.read_text()) for path in paths)
    return first, second


def tensor_bytes(folder: Path) -> int:
    """Bytes of all tensors of a folder."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            total += sum(file.get_tensor(name).nbytes for name in file.keys())
    return total


# ------------------------------------------------------------------------------------ two ranks


def test_the_ranks_are_sglangs_tensor_parallel_world_over_gloo(answers: Answers) -> None:
    assert [each["parallel"] for each in answers] == [[0, 2, "gloo"], [1, 2, "gloo"]]


def test_a_model_in_two_parts_embeds_as_by_safetensors(answers: Answers) -> None:
    first, second = (each["a_model_in_two_parts"] for each in answers)
    for each in (first, second):
        assert each["model"] == "BertModel"
        # Half of 30,522 words, padded by SGLang.
        assert each["rows"] == 15264
        assert each["same parameters"] is True
        assert each["same embeddings"] is True
    assert first["parameters"] != second["parameters"]
    assert first["embeddings"] == second["embeddings"]


def test_both_ranks_read_for_each_other_through_sglangs_group(answers: Answers, minilm: Path) -> None:
    calls = [each["a_model_in_two_parts"]["calls"] for each in answers]
    for (call,) in calls:
        assert call["files"] == ["model.safetensors"]
        assert call["ranks"] == [0, 1]
        assert call["backend"] == "gloo"
    parts = [call["read_bytes"] for (call,) in calls]
    assert sum(parts) == tensor_bytes(minilm)
    assert max(parts) < 0.51 * sum(parts)


@pytest.mark.parametrize(
    ("case", "order"),
    [
        ("all_types_from_several_files", [1, 2, 3, 4, 5]),
        # SGLANG_SORT_WEIGHT_FILES=1 and 2: each rank gives us the files in an order of its own.
        ("each_rank_starts_with_another_file", [2, 1, 4, 3, 5]),
        ("each_rank_starts_with_another_pair_of_files", [3, 4, 1, 2, 5]),
    ],
)
def test_ranks_may_name_the_files_in_any_order(answers: Answers, folder: Path, case: str, order: list[int]) -> None:
    for each, expected in zip(answers, ([1, 2, 3, 4, 5], order)):
        (call,) = each[case]["calls"]
        assert call["files"] == [f"model-{number:05}-of-00005.safetensors" for number in expected]
        assert call["ranks"] == [0, 1]
        assert each[case]["same"] is True
    assert sum(each[case]["calls"][0]["read_bytes"] for each in answers) == tensor_bytes(folder / "shards")


def test_without_a_load_group_one_rank_loads_alone(answers: Answers, folder: Path) -> None:
    found = answers[1]["one_rank_loads_without_the_other"]
    (call,) = found["calls"]
    assert (call["ranks"], call["read_bytes"]) == (None, tensor_bytes(folder / "shards"))
    assert found["same"] is True


BROKEN = "SafetensorError: Error while deserializing header: MetadataIncompleteBuffer: "


def test_a_broken_file_is_named_on_every_rank(answers: Answers, folder: Path) -> None:
    path = folder / "broken" / "model-00003-of-00003.safetensors"
    for each in answers:
        assert each["a_broken_file"].startswith(f"{BROKEN}{path}: ")


def test_an_unknown_option_is_named_on_every_rank(answers: Answers) -> None:
    message = "TypeError: safe_open.__init__() got an unexpected keyword argument 'threads'"
    assert [each["an_unknown_option"] for each in answers] == [message] * 2


# ------------------------------------------------------------------------------------- one rank


def test_a_whole_model_embeds_as_by_safetensors(answers: Answers) -> None:
    assert answers[0]["updates"]["loaded"] == [True, True]


UPDATED = [True, "Succeeded to update model weights."]


def test_weights_updated_from_disk_are_as_by_safetensors(answers: Answers) -> None:
    found = answers[0]["updates"]
    assert found["updated"] == [UPDATED, UPDATED, [True, True]]
    assert found["changed"] is True


def test_an_update_from_a_broken_file_names_it_and_changes_nothing(answers: Answers, folder: Path) -> None:
    # SGLang's own way back reads the folder that it could not read, so its caller sees our error. The third of the
    # three files is the broken one; all of them are looked at before the first tensor comes.
    found = answers[0]["updates"]
    path = folder / "broken" / "model-00003-of-00003.safetensors"
    assert found["broken"].startswith(f"{BROKEN}{path}: ")
    assert found["kept"] == [True, True]


def test_the_first_weights_come_back_by_another_update(answers: Answers) -> None:
    found = answers[0]["updates"]
    assert found["back"] == [UPDATED, UPDATED, [True, True]]
    assert found["as at first"] is True


def test_after_a_failure_in_the_middle_sglangs_second_attempt_loads_all(answers: Answers) -> None:
    found = answers[0]["updates"]
    message = "Failed to update weights: no room for it.\nRolling back to original weights."
    # Its message notwithstanding, SGLang's second attempt reads the new folder: not yet the reference's weights.
    assert found["interrupted"] == [[False, message, 2], [False, False]]
    assert found["after it"] == [UPDATED, [True, True]]
    assert found["descriptors"] == 0


def test_loads_one_after_the_other_leave_nothing_behind(answers: Answers) -> None:
    rounds = answers[0]["many_loads"]
    digests = [found[0] for found in rounds]
    assert digests[0] != digests[1]
    assert digests == digests[:2] * 2
    threads_and_descriptors = [found[1:] for found in rounds]
    assert threads_and_descriptors == threads_and_descriptors[:1] * 4


def test_experts_that_threads_copy_are_right(answers: Answers) -> None:
    found = answers[1]["experts_by_threads"]
    assert found["model"] == "DeepseekV2ForCausalLM"
    assert found["loads"] == [
        "safetensors []", "instanttensor []", "instanttensor ['buffer_size', 'chunk_size', 'concurrency']"
    ]  # fmt: skip
    assert found["same"] is True
    assert found["right"] == [True] * checkpoints.EXPERTS
    # 48 tensors of each of the three loads went to the threads.
    assert found["by threads"] == [True, 3 * 48]


def test_a_library_of_sglangs_kernels_with_its_own_handler_of_faults_does_not_end_java(
    folder: Path, ended: object
) -> None:
    # SGLang imports apache-tvm-ffi with its first kernel; Java learns of pauses by SIGSEGV.
    script = """
        import sys, threading, time
        from instanttensor import safe_open
        def load():
            with safe_open(sys.argv[1], "pt") as f:
                return len(dict(f.tensors()))
        load()
        import tvm_ffi
        print(load())
        import jep
        stream, system = jep.findClass("java/util/stream/LongStream"), jep.findClass("java/lang/System")
        def work():
            while True:
                stream.range(0, 300_000_000).sum()
        threading.Thread(target=work, daemon=True).start()
        end = time.monotonic() + 1
        while time.monotonic() < end:
            system.gc()
        print("survived", flush=True)
        import os
        os._exit(0)
    """
    assert run(script, str(folder / "shards")) == "50\nsurvived"


def test_a_real_fault_of_a_scheduler_still_prints_its_stack(
    answers: Answers, ended: subprocess.CompletedProcess[str]
) -> None:
    assert ended.stdout.splitlines()[-1] == "[0, -11]"
    told = ended.stderr[ended.stderr.index("Fatal Python error: Segmentation fault") :]
    assert "in culprit" in told
    assert ended.stderr.count("Fatal Python error: ") == 1
