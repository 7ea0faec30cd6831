"""The path is a path: a module knows only the modules before it, for type hints too."""

from __future__ import annotations

import ast
from pathlib import Path

import instanttensor
import pytest

PACKAGE = Path(str(instanttensor.__file__)).parent
MAX_LINES = 400

# In order; each may use those before it. A line is a stage.
ORDER = (
    "_version", "_installed", "_java",
    # Starting Java and calling it.
    "_find_java", "_jvm_options", "_jni", "_jvm", "_errors", "_bridge",
    # What safe_open is given, file and header.
    "_options", "_filters", "_progress", "_paths", "_dtypes", "_catalogue",
    # What tensors become.
    "_capsule", "_torch", "_numpy", "_frameworks", "_batches",
    # The checkpoint with all of that, and ranks that share it.
    "_distributed", "_stats", "_checkpoint", "_agreement",
    # Reading: into slabs and from there to tensors, or into memory of their own.
    "_loading", "_slabs", "_pass", "_reads", "_slices",
    # The public face.
    "_safe_open", "__init__",
    # The command line.
    "_finding", "_doctor_machine", "_doctor_load", "_doctor", "__main__",
    # What SGLang calls.
    "_sglang_plugin",
)  # fmt: skip


def sources() -> dict[str, str]:
    """The package's modules by name."""
    return {path.stem: path.read_text(encoding="utf-8") for path in PACKAGE.glob("*.py")}


def used_by(source: str) -> set[str]:
    """Modules of the package that a source imports, wherever it does; a name that is none is `__init__`'s."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            inside = [part for part in (node.module or "").split(".") if part]
            if node.level == 0 and inside[:1] != ["instanttensor"]:
                continue
            inside = inside if node.level else inside[1:]
            found |= {inside[0]} if inside else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            parts = [alias.name.split(".") for alias in node.names]
            found |= {(part[1:] or ["__init__"])[0] for part in parts if part[0] == "instanttensor"}
    return {name if name in ORDER else "__init__" for name in found}


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("from . import _jvm, _stats", {"_jvm", "_stats"}),
        ("from ._jvm import engine_class", {"_jvm"}),
        ("from instanttensor import _jni", {"_jni"}),
        ("from instanttensor._jni import Jvm", {"_jni"}),
        ("import instanttensor._jni, os", {"_jni"}),
        ("import instanttensor", {"__init__"}),
        ("from . import safe_open", {"__init__"}),
        ("def late():\n    from . import _jvm", {"_jvm"}),
        ("if TYPE_CHECKING:\n    from ._java import Engine", {"_java"}),
        ("import os\nfrom collections.abc import Callable", set()),
    ],
)
def test_an_import_is_seen_in_whatever_form_it_has(source: str, modules: set[str]) -> None:
    assert used_by(source) == modules


def test_every_module_has_its_place() -> None:
    assert sorted(ORDER) == sorted(sources())


def test_a_module_uses_only_the_modules_before_it() -> None:
    backwards = [
        f"{name} imports {used}"
        for name, source in sources().items()
        for used in sorted(used_by(source))
        if ORDER.index(used) >= ORDER.index(name)
    ]
    assert backwards == []


def test_no_module_has_more_than_400_lines() -> None:
    lines = {name: len(source.splitlines()) for name, source in sources().items()}
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}
