"""Storage that is slow, broken, or does not answer at all."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from instanttensor import safe_open
from lifecycle_support import PATIENCE_S, TENSOR_BYTES, check, eventually, finish, readers, start
from samples import READING_BACKENDS
from slow_files import SlowFiles

EVERY_BACKEND = pytest.mark.parametrize("backend", READING_BACKENDS)


@EVERY_BACKEND
def test_slow_reads_bring_the_same_tensors(slow_file: SlowFiles, backend: str) -> None:
    slow_file.order(delay=0.03)
    with safe_open(slow_file.path, "np", backend=backend, buffer_size=3 * TENSOR_BYTES) as f:
        for name, tensor in f.tensors():
            check(name, tensor)
        check("t023", f.get_tensor("t023"))
        (file,) = f.stats()["files"]
        assert file["mode"] == ("direct" if backend in {"AIO", "URING"} else "buffered")


@EVERY_BACKEND
def test_a_read_error_names_file_range_bytes_and_errno(slow_file: SlowFiles, backend: str) -> None:
    with safe_open(slow_file.path, "np", backend=backend, chunk_size=64 << 10) as f:
        slow_file.order(fail_from=1 << 20)
        with pytest.raises(OSError) as caught:
            for name, tensor in f.tensors():
                check(name, tensor)
        text = str(caught.value)
        assert caught.value.errno == errno.EIO
        assert caught.value.filename == str(slow_file.path)
        # As OSError has it: the number, what happened, the file.
        assert re.fullmatch(
            rf"\[Errno 5\] expected to read [\d,]+ bytes at [\d,]+, read none: .*: '{slow_file.path}'", text
        )
        with pytest.raises(OSError, match="expected to read .* bytes at .*, read none") as caught:
            f.get_tensor("t020")
        assert (caught.value.errno, caught.value.filename) == (errno.EIO, str(slow_file.path))
        eventually(lambda: not readers(), "readers gone")
        # It is the storage that was broken, not the file that is open.
        slow_file.answer_again()
        assert len(dict(f.tensors())) == 24
        check("t020", f.get_tensor("t020"))


@EVERY_BACKEND
def test_a_file_that_shrinks_under_a_load_says_how_far_it_goes(slow_file: SlowFiles, backend: str) -> None:
    bytes_ = slow_file.path.stat().st_size
    with safe_open(slow_file.path, "np", backend=backend, chunk_size=64 << 10, buffer_size=3 * TENSOR_BYTES) as f:
        generator = f.tensors()
        check(*next(generator))
        slow_file.order(size=1 << 20)
        with pytest.raises(OSError, match=rf"read [\d,]+ of [\d,]+ bytes at [\d,]+: .*had {bytes_:,} bytes"):
            for name, tensor in generator:
                check(name, tensor)
        # What is known before anything is read is said then.
        with pytest.raises(OSError, match=f"the file has 1,048,576 bytes, and had {bytes_:,} when it was opened"):
            f.get_tensor("t000")
    eventually(lambda: not readers(), "readers gone")


def test_a_header_that_cannot_be_read_is_an_error_of_the_system(slow_file: SlowFiles) -> None:
    slow_file.order(fail_from=0)
    with pytest.raises(OSError, match="read none") as caught:
        safe_open(slow_file.path, "np")
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, str(slow_file.path))


# --------------------------------------------------------------------------------------- Ctrl-C

# What is interrupted; then, with storage that answers again, that nothing of it is left and that all
# goes on working.
INTERRUPTED = """
    path = sys.argv[1]
    f = None
    def load():
        {load}

    def warm():
        with safe_open({local!r}, "np") as g:
            g.get_tensor("t000")
            for name, tensor in g.tensors():
                check(name, tensor)
    warm()
    {before}
    eventually(lambda: not readers(), "readers gone")
    held = descriptors()
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        load()
        print("loaded", flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    # The storage does not answer yet, and another file can be loaded.
    warm()
    print("goes on", flush=True)
    sys.stdin.readline()
    eventually(lambda: not readers(), "readers gone")
    eventually(lambda: live_exports() == 0, "slabs given back")
    eventually(lambda: descriptors() <= held, f"{{descriptors()}} descriptors, {{held}} before")
    with f or safe_open(path, "np") as again:
        for name, tensor in again.tensors():
            check(name, tensor)
        check("t009", again.get_tensor("t009"))
    print("again")
"""
OPENED = f"""f = safe_open(path, "np", copy=False, buffer_size={3 * TENSOR_BYTES}, backend=sys.argv[2] or None)"""
LOADS = {
    "tensors": ("for name, tensor in f.tensors(): check(name, tensor)", OPENED, 20 * TENSOR_BYTES),
    "first tensor": ("for name, tensor in f.tensors(): check(name, tensor)", OPENED, 0),
    "get_tensor": ("f.get_tensor('t022')", OPENED, 20 * TENSOR_BYTES),
    "get_slice": ("f.get_slice('t022')[10:20]", OPENED, 20 * TENSOR_BYTES),
    "open": ("safe_open(path, 'np')", "pass", 0),
}


def say(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdin is not None
    process.stdin.write(word + "\n")
    process.stdin.flush()


def expect(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    said = process.stdout.readline().strip()
    if said != word:
        process.kill()
        pytest.fail(f"expected {word!r}, got {said!r}: {process.communicate()[1]}")


@pytest.mark.parametrize(
    ("what", "backend"),
    [("tensors", ""), ("tensors", "AIO_BUFFERED"), ("tensors", "URING"), ("tensors", "URING_BUFFERED"),
     ("tensors", "MMAP"), ("first tensor", ""), ("get_tensor", ""), ("get_slice", "BUFFERED"), ("open", "")],
)  # fmt: skip
def test_ctrl_c_gets_through_within_a_second_and_leaves_nothing_running(
    slow_file: SlowFiles, checkpoint: Path, what: str, backend: str
) -> None:
    load, before, hang_from = LOADS[what]
    script = INTERRUPTED.format(load=load, before=before, local=str(checkpoint))
    process = start(script, slow_file.path, backend, stdin=True)
    try:
        expect(process, "ready")
        slow_file.hang(hang_from)
        say(process, "go")
        slow_file.await_hanging()
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        expect(process, "interrupted")
        assert time.monotonic() - begin < 1.5  # a second, and what a loaded machine adds
        expect(process, "goes on")
        slow_file.answer_again()
        say(process, "go")
        expect(process, "again")
        done = finish(process)
        assert (done.returncode, done.stderr) == (0, "")
    finally:
        slow_file.answer_again()
        process.kill()
        process.communicate(timeout=PATIENCE_S)


def test_ctrl_c_in_a_fast_load_loses_nothing(checkpoint: Path) -> None:
    # Again and again, so that it comes at every place that it can come at.
    process = start(
        """
        import signal
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        path = sys.argv[1]
        with safe_open(path, "np") as f:
            dict(f.tensors())
        eventually(lambda: not readers(), "readers gone")
        held, interrupts = descriptors(), 0
        for attempt in range(150):
            try:
                # Python drops one that comes while an object is being deleted: then the next one counts.
                signal.setitimer(signal.ITIMER_REAL, 0.0002 + attempt % 50 * 0.0002, 2)
                with safe_open(path, "np", copy=False, buffer_size=300000) as f:
                    for name, tensor in f.tensors():
                        check(name, tensor)
                    f.get_tensor("t001")
                    while True:
                        time.sleep(1)
            except KeyboardInterrupt:
                signal.setitimer(signal.ITIMER_REAL, 0)
                interrupts += 1
            name = tensor = f = None
        print(interrupts)
        eventually(lambda: not readers(), "readers gone")
        eventually(lambda: live_exports() == 0, "slabs given back")
        eventually(lambda: descriptors() <= held, f"{descriptors()} descriptors, {held} before")
        print("fine")
        """,
        checkpoint,
    )
    done = finish(process)
    assert (done.returncode, done.stdout.split()) == (0, ["150", "fine"]), done.stderr


def test_a_process_whose_storage_hangs_can_end(slow_file: SlowFiles) -> None:
    process = start(
        """
        f = safe_open(sys.argv[1], "np", copy=False)
        print("ready", flush=True)
        sys.stdin.readline()
        f.get_tensor("t022")
        """,
        slow_file.path,
        stdin=True,
    )
    expect(process, "ready")
    slow_file.hang(20 * TENSOR_BYTES)
    say(process, "go")
    slow_file.await_hanging()
    process.send_signal(signal.SIGINT)
    # A thread inside of the kernel holds the process back, whatever the process does, until the
    # storage answers; after that nothing else may.
    time.sleep(1)
    slow_file.answer_again()
    done = finish(process)
    assert done.returncode in (1, -signal.SIGINT)
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"
    assert os.path.exists(slow_file.path)
