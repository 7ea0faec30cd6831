"""One `instanttensor` among others of its name: what an import says of them, and of what it says nothing.

Folders of packages are made up here. Each script runs in a Python of its own that sees those and no other: this
one's may hold any number of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import instanttensor
import pytest

VERSION = instanttensor.__version__
# What PyPI's 0.2.2 brings beside its __init__; 0.1.5 brought the library.
CPP_FILES = ("_C.cpython-312-x86_64-linux-gnu.so", "_cpu_count.py", "_impl.py")
CPP_LIBRARY = "libinstanttensor_aio.so.1"
INSTALL = f'`{sys.executable} -m pip install --no-index --find-links WHEELHOUSE "instanttensor=={VERSION}"`'
UNINSTALL = (
    f"run `{sys.executable} -m pip uninstall --yes instanttensor` until it uninstalls none, delete what is left of"
)


def python(
    script: str, *path: Path | str, flags: tuple[str, ...] = (), cwd: Path | None = None
) -> tuple[int, str, str]:
    """Exit status, output and errors of a script for which the path is Python's library and these folders."""
    script = f"import sys; sys.path += {[str(p) for p in path]!r}\n{textwrap.dedent(script)}"
    command = [sys.executable, "-I", "-S", *flags, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    return done.returncode, done.stdout, done.stderr


def warnings_of(*path: Path | str, before: str = "", cwd: Path | None = None) -> list[str]:
    """What an import warns of."""
    script = f"""
        import warnings
        {before}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            import instanttensor
        assert all(w.category is RuntimeWarning for w in caught)
        print("\\n".join(str(w.message) for w in caught))
    """
    status, out, errors = python(script, *path, cwd=cwd)
    assert (status, errors) == (0, ""), errors
    return out.splitlines() if out.strip() else []


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def metadata(site: Path, name: str, files: tuple[str, ...] = ()) -> None:
    write(site / f"{name}.dist-info/METADATA", "Metadata-Version: 2.1\n")
    write(site / f"{name}.dist-info/RECORD", "".join(f"{file},sha256=x,1\n" for file in files))


def source_tree(site: Path) -> Path:
    """Our modules without what an installer adds, and a stand-in for the one package they import."""
    for module in Path(instanttensor.__file__).parent.glob("*.py"):
        write(site / "instanttensor" / module.name, module.read_text())
    write(site / "safetensors/__init__.py", "class SafetensorError(Exception): ...\n")
    return site


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """A folder into which our wheel was installed."""
    site = source_tree(tmp_path / "ours")
    write(site / "instanttensor/_engine/instanttensor.jar")
    files = (str(path.relative_to(site)) for path in (site / "instanttensor").rglob("*"))
    metadata(site, f"instanttensor-{VERSION}", tuple(files))
    return site


@pytest.fixture
def cpp(tmp_path: Path) -> Path:
    """A folder into which PyPI's wheel was installed."""
    site = tmp_path / "cpp"
    files = tuple(f"instanttensor/{name}" for name in ("__init__.py", *CPP_FILES))
    for file in files:
        write(site / file)
    metadata(site, "instanttensor-0.2.2", files)
    return site


# -------------------------------------------------------------------------------- what is warned of


def test_files_of_another_package_in_our_folder_are_named(ours: Path) -> None:
    for name in (*CPP_FILES, CPP_LIBRARY):
        write(ours / "instanttensor" / name)
    assert warnings_of(ours) == [
        f"more than one instanttensor: in use is {VERSION} in {ours}/instanttensor; also found: files of another "
        "package in that folder (_C.cpython-312-x86_64-linux-gnu.so, _cpu_count.py, _impl.py, "
        f"libinstanttensor_aio.so.1). To keep one, {UNINSTALL} {ours}/instanttensor and of instanttensor-*.dist-info "
        f"beside, and run {INSTALL}"
    ]


def test_of_many_files_five_are_named(ours: Path) -> None:
    for i in range(8):
        write(ours / f"instanttensor/z{i}.so")
    (said,) = warnings_of(ours)
    assert "(z0.so, z1.so, z2.so, z3.so, z4.so and 3 more)" in said


def test_metadata_of_another_distribution_is_named(ours: Path) -> None:
    # As pip leaves it with --target and --upgrade.
    metadata(ours, "instanttensor-0.2.2")
    assert warnings_of(ours) == [
        f"more than one instanttensor: in use is {VERSION} in {ours}/instanttensor; also found: metadata of "
        f"instanttensor 0.2.2 beside it. To keep one, {UNINSTALL} {ours}/instanttensor and of "
        f"instanttensor-*.dist-info beside, and run {INSTALL}"
    ]


def test_our_modules_under_the_other_ones_metadata_are_named(tmp_path: Path) -> None:
    site = source_tree(tmp_path / "site")
    metadata(site, "instanttensor-0.2.2")
    (said,) = warnings_of(site)
    assert "; also found: metadata of instanttensor 0.2.2 beside it. " in said


def test_a_second_one_elsewhere_is_named_with_its_distribution(ours: Path, cpp: Path) -> None:
    assert warnings_of(ours, cpp) == [
        f"more than one instanttensor: in use is {VERSION} in {ours}/instanttensor; also found: {cpp}/instanttensor "
        f"(instanttensor 0.2.2). To keep one, {UNINSTALL} {ours}/instanttensor and {cpp}/instanttensor and of "
        f"instanttensor-*.dist-info beside, and run {INSTALL}"
    ]


def test_a_source_tree_is_to_be_taken_off_the_path_and_not_deleted(ours: Path, tmp_path: Path) -> None:
    tree = source_tree(tmp_path / "src")
    assert warnings_of(ours, tree) == [
        f"more than one instanttensor: in use is {VERSION} in {ours}/instanttensor; also found: {tree}/instanttensor "
        f"(no distribution). To keep one, take {tree} off sys.path (PYTHONPATH)"
    ]
    (said,) = warnings_of(tree, ours)
    assert f"in use is {VERSION} in {tree}/instanttensor; also found: {ours}/instanttensor (instantt" in said
    assert said.endswith(f". To keep one, take {tree} off sys.path (PYTHONPATH)")


def test_of_two_source_trees_one_may_stay(tmp_path: Path) -> None:
    a, b = source_tree(tmp_path / "a"), source_tree(tmp_path / "b")
    (said,) = warnings_of(a, b)
    assert said.endswith(f". To keep one, take all but one of {a} and {b} off sys.path (PYTHONPATH)")


@pytest.mark.parametrize("name", ["instanttensor.py", "instanttensor.abi3.so", "instanttensor.pyc"])
def test_a_single_module_is_one_too(ours: Path, tmp_path: Path, name: str) -> None:
    module = write(tmp_path / "scripts" / name)
    (said,) = warnings_of(ours, module.parent)
    assert f"; also found: {module} (no distribution). To keep one, take {module.parent} off" in said


def test_one_in_an_archive_is_one_too(ours: Path, tmp_path: Path) -> None:
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("instanttensor/__init__.py", "")
    (said,) = warnings_of(ours, archive)
    assert f"; also found: {archive}/instanttensor (no distribution). To keep one, take {archive} off" in said


def test_all_that_is_found_is_in_one_warning(ours: Path, cpp: Path, tmp_path: Path) -> None:
    write(ours / "instanttensor/_impl.py")
    metadata(ours, "instanttensor-0.2.2")
    tree = source_tree(tmp_path / "src")
    (said,) = warnings_of(ours, cpp, tree)
    assert said.count("instanttensor 0.2.2") == 2
    assert (
        "also found: files of another package in that folder (_impl.py); metadata of instanttensor 0.2.2 beside it; "
        f"{cpp}/instanttensor (instanttensor 0.2.2); {tree}/instanttensor (no distribution). "
        f"To keep one, take {tree} off sys.path (PYTHONPATH); {UNINSTALL}" in said
    )


def test_an_init_that_was_overwritten_is_told_to_who_asks(ours: Path) -> None:
    # Then nothing of ours runs by itself; `python -m` still finds what is left.
    write(ours / "instanttensor/__init__.py", "from ._impl import safe_open\n")
    write(ours / "instanttensor/_impl.py", "safe_open = None\n")
    metadata(ours, "instanttensor-0.2.2")
    status, out, errors = python("from instanttensor import _installed as i; print(i.warning())", ours)
    assert (status, errors) == (0, "")
    assert out.startswith(
        f"more than one instanttensor: in use is another package's code in {ours}/instanttensor; also found: files of "
        "another package in that folder (_impl.py); metadata of instanttensor 0.2.2 beside it. "
    )


# ------------------------------------------------------------------------------ of what nothing is said


def test_an_installation_is_silent(ours: Path) -> None:
    caches, others = ("__pycache__/_jvm.cpython-311.pyc", "_jvm.pyc"), (".nfs0001", "_engine/instanttensor-1.aot")
    for name in (*caches, *others, "_jni.py~", "_jni.py.orig"):
        write(ours / "instanttensor" / name)
    assert warnings_of(ours) == []


def test_a_source_tree_is_silent(tmp_path: Path) -> None:
    tree = source_tree(tmp_path / "src")
    write(tree / "instanttensor/_new.py")
    write(tree / "instanttensor.egg-info/PKG-INFO", "Metadata-Version: 2.1\nVersion: 0.1\n")
    assert warnings_of(tree) == []


def test_one_place_reached_on_many_ways_is_silent(ours: Path, tmp_path: Path) -> None:
    (tmp_path / "lib64").symlink_to(ours)
    packages = tmp_path / "linked"
    packages.mkdir()
    (packages / "instanttensor").symlink_to(ours / "instanttensor")
    (tmp_path / "b").mkdir()
    ways = (ours, f"{ours}/", tmp_path / "lib64", tmp_path / "b/../ours", packages, ours)
    assert warnings_of(*ways, "", cwd=ours) == []
    assert warnings_of(tmp_path / "lib64", ours) == []


def test_a_folder_that_is_no_package_is_silent(ours: Path, tmp_path: Path) -> None:
    write(tmp_path / "work/instanttensor/README.md")
    write(tmp_path / "work/instanttensor/python-shim/src/instanttensor/__init__.py")
    assert warnings_of(ours, tmp_path / "work") == []
    assert warnings_of("", ours, cwd=tmp_path / "work") == []


def test_names_that_only_begin_alike_are_silent(ours: Path) -> None:
    for name in ("instanttensor_tools/__init__.py", "instanttensor_tools.py", "~nstanttensor/__init__.py"):
        write(ours / name)
    for name in ("instanttensor_tools-0.2.2", "~nstanttensor-0.2.2"):
        metadata(ours, name)
    write(ours / "other/_vendor/instanttensor/__init__.py")
    assert warnings_of(ours) == []


def test_an_emptied_metadata_folder_is_silent(ours: Path) -> None:
    # pip does not see it either.
    write(ours / "instanttensor-0.2.2.dist-info/INSTALLER")
    assert warnings_of(ours) == []


def test_whatever_lies_on_the_path_ends_no_import(ours: Path, tmp_path: Path) -> None:
    write(tmp_path / "broken.zip", "PK")
    write(tmp_path / "file/instanttensor", "no folder")
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop/instanttensor").symlink_to(tmp_path / "loop/instanttensor")
    (tmp_path / "gone").mkdir()
    entries = [str(tmp_path / name) for name in ("broken.zip", "file", "loop", "missing")]
    before = f"""
        import os
        sys.path += {entries!r} + ["", "\\udcff", b"bytes", 7]
        os.chdir({str(tmp_path / "gone")!r})
        os.rmdir({str(tmp_path / "gone")!r})
    """
    assert warnings_of(ours, before=textwrap.dedent(before).replace("\n", "\n        ")) == []
    # Python could import nothing else either with these.
    script = f"""
        import instanttensor
        def refuse(entry):
            raise RuntimeError(entry)
        class Finder:
            find_spec = property(lambda self: 1 / 0)
        sys.path += ["nul\\0byte", {str(write(tmp_path / "odd"))!r}]
        sys.path_hooks.insert(0, refuse)
        sys.meta_path.append(Finder())
        instanttensor._installed.check()
        print(instanttensor._installed.warning())
    """
    assert python(script, ours) == (0, "None\n", "")


def test_a_record_that_cannot_be_read_is_silent(ours: Path) -> None:
    record = ours / f"instanttensor-{VERSION}.dist-info/RECORD"
    write(ours / "instanttensor/_impl.py")
    for contents in (b"", b"\xff\xfe\x00", b"../../elsewhere.py,,\n"):
        record.write_bytes(contents)
        assert warnings_of(ours) == [], contents


# ------------------------------------------------------------------------------------ how it is warned


def test_the_warning_points_at_who_imports_and_comes_once(ours: Path, cpp: Path, tmp_path: Path) -> None:
    importer = write(tmp_path / "app/importer.py", "x = 1\nimport instanttensor\nimport instanttensor\n")
    status, out, errors = python("import importer, importer; print('went on')", ours, cpp, importer.parent)
    assert (status, out) == (0, "went on\n")
    assert errors.startswith(f"{importer}:2: RuntimeWarning: more than one instanttensor: ")
    assert errors.count("RuntimeWarning") == 1


def test_a_filter_silences_it_by_how_it_begins(ours: Path, cpp: Path) -> None:
    flags = ("-W", "ignore:more than one instanttensor")
    assert python("import instanttensor; print('in')", ours, cpp, flags=flags) == (0, "in\n", "")


def test_as_an_error_it_is_all_that_an_import_raises(ours: Path, cpp: Path) -> None:
    script = """
        for _ in range(2):
            try:
                import instanttensor
            except RuntimeWarning as e:
                print(str(e)[:31], e.__cause__, e.__context__, "instanttensor" in sys.modules)
        import warnings
        warnings.simplefilter("ignore")
        import instanttensor
        print(instanttensor.__version__)
    """
    flags = ("-W", "error", "-bb", "-X", "dev", "-X", "warn_default_encoding")
    said = "more than one instanttensor: in None None False\n"
    assert python(script, ours, cpp, flags=flags) == (0, f"{said}{said}{VERSION}\n", "")


def test_an_import_lists_a_folder_once_and_loads_nothing_for_it(ours: Path, tmp_path: Path) -> None:
    script = f"""
        import os
        counted, listdir = [], os.listdir
        os.listdir = lambda folder: counted.append(folder) or listdir(folder)
        import instanttensor
        print(sorted(folder for folder in counted if folder.startswith({str(tmp_path)!r})))
        print(sorted({{"importlib.metadata", "importlib.machinery", "shlex", "zipfile"}} & set(sys.modules)))
    """
    write(tmp_path / "other/module.py")
    status, out, errors = python(script, ours, tmp_path / "other")
    assert (status, errors) == (0, "")
    listed, loaded = out.splitlines()
    # Ours as the site that holds us, and as an entry of the path.
    assert eval(listed) == sorted([str(ours), str(ours), str(ours / "instanttensor"), str(tmp_path / "other")])
    assert loaded == "[]"


# ------------------------------------------------------------------------------------- who provides it


def test_providers_are_the_imported_one_and_then_the_others(ours: Path, cpp: Path, tmp_path: Path) -> None:
    tree = source_tree(tmp_path / "src")
    script = """
        import warnings
        warnings.simplefilter("ignore")
        from instanttensor import _installed
        for p in _installed.providers():
            print(p.folder, p.distributions, p.imported, sep="|")
    """
    status, out, errors = python(script, ours, cpp, tree)
    assert (status, errors) == (0, "")
    assert out.splitlines() == [
        f"{ours}/instanttensor|('instanttensor {VERSION}',)|True",
        f"{cpp}/instanttensor|('instanttensor 0.2.2',)|False",
        f"{tree}/instanttensor|()|False",
    ]


def test_one_that_is_on_no_path_is_first_all_the_same(ours: Path, cpp: Path) -> None:
    script = f"""
        import warnings
        warnings.simplefilter("ignore")
        import instanttensor
        sys.path.remove({str(ours)!r})
        print([(str(p.folder), p.imported) for p in instanttensor._installed.providers()])
    """
    status, out, _ = python(script, ours, cpp)
    assert (status, eval(out)) == (0, [(f"{ours}/instanttensor", True), (f"{cpp}/instanttensor", False)])


def test_leftovers_are_paths_in_our_folder(ours: Path) -> None:
    for name in CPP_FILES:
        write(ours / "instanttensor" / name)
    script = "from instanttensor import _installed as i; print([str(p) for p in i.leftovers()])"
    status, out, _ = python(script, ours, flags=("-W", "ignore"))
    assert (status, eval(out)) == (0, [os.path.join(ours, "instanttensor", name) for name in CPP_FILES])
