"""Processes made of one that has started the engine, or has not yet."""

from __future__ import annotations

from pathlib import Path

import pytest
from lifecycle_support import finish, run, start

# Runs a function in a forked child, which then ends as Python ends; answers its exit status.
FORK = """
    def forked(work, finalise=True):
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            try:
                work()
            except BaseException as e:
                print(type(e).__name__, e, flush=True)
            if finalise:
                sys.exit(0)
            os._exit(0)
        # A child that hangs fails the test by its patience.
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def test_a_child_of_a_started_engine_is_told_at_its_first_use(checkpoint: Path) -> None:
    out = run(
        FORK
        + """
    path = sys.argv[1]
    f = safe_open(path, "np", copy=False, buffer_size=300000)
    part = f.get_slice("t001")
    generator = f.tensors()
    next(generator)
    unstarted = f.tensors()
    def told(use):
        try:
            use()
        except RuntimeError as e:
            wanted = f"instanttensor cannot be used in process {os.getpid()}: it was forked from process {os.getppid()}"
            print("told" if str(e).startswith(wanted) and "spawn" in str(e) else e)
        else:
            print("not told")
    def child():
        for use in (
            lambda: safe_open(path, "np"), lambda: f.get_tensor("t000"), f.tensors, lambda: f.keys(),
            lambda: f.get_slice("t000"), lambda: part[0], lambda: next(generator), lambda: next(unstarted),
            lambda: f.stats(), lambda: f.__enter__(),
        ):
            told(use)
        f.close()
    print(forked(child))
    # The parent goes on where it was.
    for name, tensor in generator:
        check(name, tensor)
    check("t003", f.get_tensor("t003"))
    """,
        checkpoint,
    )
    assert out.splitlines() == ["told"] * 10 + ["0"]


@pytest.mark.parametrize("finalise", [True, False])
def test_a_child_ends_without_a_call_into_java(checkpoint: Path, finalise: bool) -> None:
    """It would wait for ever where one of Java's pauses had begun as it was forked."""
    out = run(
        FORK
        + f"""
    import ctypes
    from instanttensor import _jvm
    path = sys.argv[1]
    f = safe_open(path, "np", copy=False, buffer_size=300000)
    tensors = dict(f.tensors())
    generator = f.tensors()
    next(generator)
    libc = ctypes.CDLL(None)
    def end_at_a_call():
        # All functions of JNI, behind four words that are none.
        table = ctypes.c_void_p.from_address(_jvm._jvm._env.value).value
        functions = (ctypes.c_void_p * 229).from_address(table + 4 * 8)
        libc.mprotect(ctypes.c_void_p(table & -4096), ctypes.c_size_t(3 * 4096), 3)
        functions[:] = [ctypes.cast(libc.abort, ctypes.c_void_p).value] * len(functions)
    print(forked(end_at_a_call, {finalise}))
    """,
        checkpoint,
    )
    assert out == "0"


def test_children_drop_what_they_inherit_and_end(checkpoint: Path) -> None:
    out = run(
        FORK
        + """
    import signal
    path = sys.argv[1]
    f = safe_open(path, "np", copy=False, buffer_size=300000)
    tensors = dict(f.tensors())
    generator = f.tensors()
    next(generator)
    try:
        safe_open("/nowhere", "np")
    except OSError as e:
        kept = e
    def drop():
        global f, generator, tensors, kept
        signal.alarm(60)
        check("t005", tensors["t005"])
        tensors.clear()
        kept = None
        generator.close()
        del f, generator
        gc.collect()
    def keep():
        signal.alarm(60)
    class Thread(threading.Thread):
        def run(self):
            self.status = forked(*self.work)
    statuses = set()
    for attempt in range(30):
        work = (drop, True), (keep, True), (drop, False)
        statuses.add(forked(*work[attempt % 3]))
        if attempt % 5 == 0:
            # A thread that has never called Java has nothing of it attached.
            thread = Thread()
            thread.work = work[attempt % 3]
            thread.start()
            thread.join()
            statuses.add(thread.status)
    print(statuses, len(tensors))
    for name, tensor in tensors.items():
        check(name, tensor)
    assert sum(1 for _ in generator) == 23
    """,
        checkpoint,
    )
    assert out == "{0} 24"


def test_a_fork_while_other_threads_load_harms_neither(checkpoint: Path) -> None:
    out = run(
        FORK
        + """
    import signal
    path, stop = sys.argv[1], threading.Event()
    def load():
        while not stop.is_set():
            with safe_open(path, "np", copy=False, buffer_size=300000) as g:
                for name, tensor in g.tensors():
                    check(name, tensor)
                    time.sleep(0.001)
    threads = [threading.Thread(target=load) for _ in range(2)]
    safe_open(path, "np")
    for thread in threads:
        thread.start()
    statuses = {forked(lambda: signal.alarm(60)) for _ in range(12)}
    stop.set()
    for thread in threads:
        thread.join()
    print(statuses)
    """,
        checkpoint,
    )
    assert out == "{0}"


def test_a_fork_before_the_start_leaves_both_free(checkpoint: Path) -> None:
    out = run(
        FORK
        + """
    path = sys.argv[1]
    def load():
        with safe_open(path, "np") as f:
            for name, tensor in f.tensors():
                check(name, tensor)
        print("loaded", flush=True)
    print(forked(load), flush=True)
    load()
    print(forked(load), flush=True)
    """,
        checkpoint,
    )
    lines = out.splitlines()
    assert [*lines[:3], lines[-1]] == ["loaded", "0", "loaded", "0"]
    assert lines[3].startswith("RuntimeError instanttensor cannot be used in process ")


MODULE = """
import multiprocessing, sys
from instanttensor import safe_open

def work(path):
    try:
        with safe_open(path, "np") as f:
            return float(sum(tensor[1] for _, tensor in f.tensors()))
    except RuntimeError as e:
        return str(e)[:45]

if __name__ == "__main__":
    path, method, before = sys.argv[1], sys.argv[2], sys.argv[3] == "started"
    if before:
        work(path)
    with multiprocessing.get_context(method).Pool(2) as pool:
        print(pool.map(work, [path] * 2), flush=True)
    print(work(path))
"""
# t[1] is 1000 n + 1.
SUM = float(sum(1000 * n + 1 for n in range(24)))


@pytest.mark.parametrize(
    ("method", "before", "answer"),
    [("fork", "started", "instanttensor cannot be used in process "), ("fork", "not", SUM), ("spawn", "started", SUM),
     ("forkserver", "started", SUM)],
)  # fmt: skip
def test_multiprocessing(checkpoint: Path, tmp_path: Path, method: str, before: str, answer: float | str) -> None:
    import subprocess
    import sys

    script = tmp_path / "pool.py"
    script.write_text(MODULE)
    process = subprocess.Popen(
        [sys.executable, str(script), str(checkpoint), method, before],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    done = finish(process)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    pool, own = done.stdout.splitlines()
    assert own == str(SUM)
    if isinstance(answer, str):
        assert pool.count(answer) == 2
    else:
        assert pool == str([answer] * 2)


def test_a_torch_data_loader_forks_workers_over_our_tensors(checkpoint: Path) -> None:
    out = run(
        """
        import torch
        from torch.utils.data import DataLoader, Dataset
        class Ours(Dataset):
            def __init__(self, tensors): self.tensors = list(tensors.values())
            def __len__(self): return len(self.tensors)
            def __getitem__(self, index): return self.tensors[index][:4]
        with safe_open(sys.argv[1], "pt", copy=False, buffer_size=300000) as f:
            tensors = dict(f.tensors())
            for epoch in range(2):
                rows = torch.cat(list(DataLoader(Ours(tensors), batch_size=4, num_workers=2,
                                                 multiprocessing_context="fork")))
                assert rows.shape == (24, 4)
                assert rows[:, 1].tolist() == [1000.0 * n + 1 for n in range(24)], rows[:, 1]
            check("t004", f.get_tensor("t004"))
        tensors.clear()
        eventually(lambda: live_exports() == 0, "slabs given back")
        print("fine")
        """,
        checkpoint,
    )
    assert out == "fine"


def test_eight_processes_that_start_at_once_all_load(checkpoint: Path) -> None:
    processes = [
        start(
            """
            with safe_open(sys.argv[1], "np", copy=False) as f:
                for name, tensor in f.tensors():
                    check(name, tensor)
            print("fine")
            """,
            checkpoint,
        )
        for _ in range(8)
    ]
    for process in processes:
        done = finish(process)
        assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")


def test_a_child_closes_a_file_that_another_thread_of_the_parent_was_decoding(checkpoint: Path) -> None:
    script = """
        f = safe_open(sys.argv[1], "np")
        # As the other thread does, which the child will not have.
        f._checkpoint._decoding.acquire()
        child = os.fork()
        if child == 0:
            f.close()
            del f
            os._exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        f._checkpoint._decoding.release()
        f.close()
    """
    assert run(script, checkpoint) == "7"
