"""What Java starts with: our options, the user's, and the boot archive."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from instanttensor import _find_java, _jvm_options
from jvm_support import START, refusal, run


def test_the_heap_is_bounded_unless_the_user_says_otherwise() -> None:
    script = START + "; import jep; print(jep.findClass('java/lang/Runtime').getRuntime().maxMemory())"
    assert 200 << 20 < int(run(script)) <= 256 << 20
    assert 300 << 20 < int(run(script, INSTANTTENSOR_JAVA_OPTS="-Xmx400m")) <= 400 << 20


def test_another_collector_replaces_ours() -> None:
    script = """
        from instanttensor import _jvm
        _jvm.engine_class()
        import jep
        management = jep.findClass("java/lang/management/ManagementFactory")
        print(sorted(bean.getName() for bean in management.getGarbageCollectorMXBeans()))
    """
    assert run(script) == "['Copy', 'MarkSweepCompact']"
    parallel = run(script, INSTANTTENSOR_JAVA_OPTS="-XX:+UseParallelGC")
    assert parallel == "['PS MarkSweep', 'PS Scavenge']"


def test_quoted_options_are_split_like_a_shell_would() -> None:
    script = START + "; import jep; print(jep.findClass('java/lang/System').getProperty('a.b'))"
    assert run(script, INSTANTTENSOR_JAVA_OPTS="-Xmx64m '-Da.b=two words'") == "two words"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("-XX:+NoSuchThing", "Unrecognized VM option 'NoSuchThing'"),
        ("-Xmx12q", "Invalid maximum heap size: -Xmx12q"),
        ("-Xms1k -Xmx1k", "Too small maximum heap"),
        ("-Xms900m -Xmx100m", "Initial heap size set to a larger value than the maximum heap size"),
        ("-XX:+UseParallelGC -XX:+UseSerialGC", "Multiple garbage collectors selected"),
    ],
)
def test_an_option_that_java_refuses_is_an_error_in_javas_words(options: str, words: str) -> None:
    line = refusal(START, INSTANTTENSOR_JAVA_OPTS=options)
    assert line.startswith(f"RuntimeError: Java refuses INSTANTTENSOR_JAVA_OPTS={options!r}: ")
    assert words in line


def test_options_that_are_none_are_refused_before_java_sees_them() -> None:
    assert refusal(START, INSTANTTENSOR_JAVA_OPTS="-cp here") == (
        "RuntimeError: INSTANTTENSOR_JAVA_OPTS='-cp here': 'here' is no option of a Java virtual machine"
    )
    assert refusal(START, INSTANTTENSOR_JAVA_OPTS="'-Da=b") == (
        'RuntimeError: INSTANTTENSOR_JAVA_OPTS="\'-Da=b": No closing quotation'
    )


def test_after_a_refused_option_a_corrected_one_starts() -> None:
    out = run("""
        import os
        from instanttensor import _jvm
        os.environ["INSTANTTENSOR_JAVA_OPTS"] = "-XX:+NoSuchThing"
        try:
            _jvm.engine_class()
        except RuntimeError:
            print("refused", _jvm.in_forked_child())
        os.environ["INSTANTTENSOR_JAVA_OPTS"] = "-Xmx64m"
        print(_jvm.engine_class())
    """)
    assert out.splitlines() == ["refused False", "class io.instanttensor.bridge.PythonBridge"]


def test_java_writes_nothing_to_standard_output_and_no_file_stays_behind(tmp_path: Path) -> None:
    out = run(f"""
        import os
        from instanttensor import _jvm
        _jvm.engine_class()
        import jep
        user = jep.findClass("java/lang/System").getProperty("user.name")
        kept = [f"/tmp/hsperfdata_{{user}}/{{os.getpid()}}", f"/tmp/.java_pid{{os.getpid()}}"]
        print(any(map(os.path.exists, kept)), os.listdir({str(tmp_path)!r}))
    """)
    assert out == "False []"


def test_only_the_boot_archive_of_this_very_jar_is_used(tmp_path: Path) -> None:
    """Java itself would run the classes of an archive that was made of another jar."""
    import zlib

    jar = tmp_path / "instanttensor.jar"
    jar.write_bytes(b"some jar")
    assert _jvm_options.boot_archive(jar) is None
    (tmp_path / "instanttensor-00000000.aot").touch()
    assert _jvm_options.boot_archive(jar) is None
    archive = tmp_path / f"instanttensor-{zlib.crc32(b'some jar'):08x}.aot"
    archive.touch()
    assert _jvm_options.boot_archive(jar) == archive


def test_a_boot_archive_that_java_cannot_use_is_passed_over_in_silence(tmp_path: Path) -> None:
    import zlib

    jar = tmp_path / "instanttensor.jar"
    shutil.copy(_find_java.engine_jar(), jar)
    (tmp_path / f"instanttensor-{zlib.crc32(jar.read_bytes()):08x}.aot").write_bytes(b"x" * 9000)
    assert run(START + "; print('up')", INSTANTTENSOR_ENGINE_DIR=str(tmp_path)) == "up"


@pytest.mark.parametrize("name", ["JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS"])
@pytest.mark.parametrize("options", ["-XX:+UseG1GC", "-Xmx64m", "-Bogus"])
def test_options_that_are_for_any_java_are_not_for_ours(name: str, options: str) -> None:
    script = START + f"; import os; print(os.environ[{name!r}])"
    assert run(script, **{name: options}) == options
    assert run(script, **{name: options, "INSTANTTENSOR_JAVA_OPTS": "-Xmx300m"}) == options
