"""Threads of Python that have called Java leave it as they end."""

from __future__ import annotations

from pathlib import Path

import pytest
from jvm_support import run
from samples import stored, write

THREADS = """
    import threading, time
    from instanttensor import safe_open
    def use():
        with safe_open({path!r}, "pt", copy=False) as f:
            f.get_tensor("a"), f.metadata(), list(f.tensors()), f.stats()
    use()
    import jep
    thread = jep.findClass("java/lang/Thread")
    def names():
        return {{one.getName() for one in thread.getAllStackTraces().keySet()}}
    before = names()
    {body}
    # The engine's own come and go beside, and end by themselves.
    end = time.monotonic() + 30
    while names() - before and time.monotonic() < end:
        time.sleep(0.05)
    print(*sorted(names() - before))
"""
BODIES = {
    "all of a load": """
    for _ in range(20):
        one = threading.Thread(target=use)
        one.start()
        one.join()
    """,
    "the end of a load": """
    for _ in range(20):
        with safe_open({path!r}, "pt") as f:
            loading = f.tensors()
            next(loading)
            one = threading.Thread(target=list, args=(loading,))
            one.start()
            one.join()
    """,
    "closing": """
    for _ in range(20):
        f = safe_open({path!r}, "pt")
        one = threading.Thread(target=f.close)
        one.start()
        one.join()
    """,
    "the start": """
    one = threading.Thread(target=use)
    one.start()
    one.join()
    """,
}


@pytest.mark.parametrize("what", BODIES)
def test_java_forgets_threads_that_have_ended(what: str, tmp_path: Path) -> None:
    path = str(write(tmp_path / "a.safetensors", {"a": stored("U8", [3]), "b": stored("U8", [5])}))
    assert run(THREADS.format(path=path, body=BODIES[what].format(path=path).strip())) == ""


def test_a_daemon_thread_that_still_uses_java_does_not_disturb_the_end(tmp_path: Path) -> None:
    path = str(write(tmp_path / "a.safetensors", {"a": stored("U8", [3])}))
    out = run(f"""
        import threading, time
        from instanttensor import safe_open
        used = threading.Event()
        def use():
            with safe_open({path!r}, "pt") as f:
                f.get_tensor("a")
                used.set()
                time.sleep(60)
        threading.Thread(target=use, daemon=True).start()
        used.wait()
        print("over")
    """)
    assert out == "over"
