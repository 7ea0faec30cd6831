"""What Java makes ready beside its start, where there are processors to spare."""

from __future__ import annotations

from pathlib import Path

from jvm_support import run

PROCESSORS = "-XX:ActiveProcessorCount=4"

# Prints whether JCuda's library comes to be loaded.
BOUND = """
    import ctypes, time
    if {has_driver}:
        ctypes.CDLL("libcuda.so.1")
    from instanttensor import _jvm
    _jvm.engine_class()
    deadline = time.monotonic() + {patience}
    while not (bound := "libJCudaDriver" in open("/proc/self/maps").read()) and time.monotonic() < deadline:
        time.sleep(0.01)
    print(bound)
"""


def test_cudas_bindings_are_loaded_where_somebody_has_loaded_the_driver(stub: dict[str, str]) -> None:
    script = BOUND.format(has_driver=True, patience=10)
    assert run(script, INSTANTTENSOR_JAVA_OPTS=PROCESSORS, **stub) == "True"


def test_without_a_driver_there_is_nothing_to_bind(stub: dict[str, str]) -> None:
    script = BOUND.format(has_driver=False, patience=1)
    assert run(script, INSTANTTENSOR_JAVA_OPTS=PROCESSORS, **stub) == "False"


def test_a_mapped_file_with_a_name_in_no_known_encoding_prints_nothing(tmp_path: Path) -> None:
    script = f"""
        import mmap, time
        path = {bytes(tmp_path)!r} + b"/caf\\xe9"
        with open(path, "wb+") as file:
            file.write(b"something")
            file.flush()
            mapped = mmap.mmap(file.fileno(), 0)
        from instanttensor import _bridge
        _bridge.engine().rehearse()
        time.sleep(0.5)
        print("quiet")
    """
    assert run(script, INSTANTTENSOR_JAVA_OPTS=PROCESSORS) == "quiet"
