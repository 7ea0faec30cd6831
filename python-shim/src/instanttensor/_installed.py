"""Which `instanttensor` is in use, and what else goes by that name on this Python's path.

PyPI's C++ package has our name. pip replaces one by the other; ``pip install --ignore-installed`` or
``--target``, layers of a container image and PYTHONPATH leave both, and then what runs is a matter of
chance: of the order of the path, or of which was unpacked last.

An import looks once: it lists the folders of ``sys.path`` and reads one small file, nothing more.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ._version import __version__

_NAME = "instanttensor"
# A warning names no more files than a person reads.
_NAMED = 5
# Of editors and patches.
_BACKUPS = ("~", ".orig", ".rej", ".bak", ".swp")


class Provider(NamedTuple):
    """An `instanttensor` that an import can find."""

    folder: Path
    """The package's folder; the file of a single module."""

    distributions: tuple[str, ...]
    """The installed distributions that lie beside it, such as "instanttensor 0.2.2": none for a source tree."""

    imported: bool
    """Whether this is the one in use."""


def check() -> None:
    """Warns the importer of this package where it is not the only one; never raises anything else."""
    try:
        found = warning()
    except Exception:
        # Whatever lies on somebody's path: a look at it ends no import.
        return
    if found is not None:
        import warnings

        # This function, our __init__, then the import statement: Python passes over its own frames.
        warnings.warn(found, RuntimeWarning, stacklevel=3)


def providers() -> list[Provider]:
    """Every `instanttensor` package or module on ``sys.path``, the imported one first.

    One that is reached on several ways is named once. A folder without ``__init__`` is none.
    """
    own = _own_folder()
    site = os.path.dirname(own)
    found = [Provider(Path(own), _distributions(site, _names(site)), imported=True)]
    known = {os.path.realpath(own)}
    for entry in _search_path():
        names = _names(entry)
        place = _importable(entry, names, known)
        if place is not None:
            known.add(os.path.realpath(place))
            found.append(Provider(Path(place), _distributions(entry, names), imported=False))
    return found


def leftovers() -> list[Path]:
    """What lies in our own folder and is not ours, by the RECORD that was installed with us.

    Without a RECORD, in a source tree for instance, nothing is known to be foreign. Hidden files and
    Python's caches are nobody's.
    """
    own = _own_folder()
    ours = _recorded(os.path.dirname(own))
    if not ours:
        return []
    ours.add("__pycache__")
    # A module's bytecode may lie beside its source.
    foreign = [name for name in _names(own, "") if name not in ours and name.removesuffix("c") not in ours]
    return [Path(own, name) for name in foreign if not name.startswith(".") and not name.endswith(_BACKUPS)]


def warning() -> str | None:
    """What was found, which one is in use and how to keep one; None where all is well."""
    own, *rivals = providers()
    foreign = leftovers()
    others = [d for d in own.distributions if d != f"{_NAME} {__version__}"]
    if not (rivals or foreign or others):
        return None
    found = []
    if foreign:
        names = ", ".join(path.name for path in foreign[:_NAMED])
        more = f" and {len(foreign) - _NAMED} more" if len(foreign) > _NAMED else ""
        found.append(f"files of another package in that folder ({names}{more})")
    if others:
        found.append(f"metadata of {_listed(others)} beside it")
    found += [f"{rival.folder} ({_listed(rival.distributions) or 'no distribution'})" for rival in rivals]
    return (
        f"more than one instanttensor: in use is {_in_use()} in {own.folder}; also found: {'; '.join(found)}. "
        f"{_cure([own, *rivals], mixed=bool(foreign or others))}"
    )


def _in_use() -> str:
    # Where the other package has overwritten our __init__, its modules run, and this one only if asked for.
    version = getattr(sys.modules.get(_NAME), "__version__", None)
    return __version__ if version == __version__ else "another package's code"


def _cure(every: list[Provider], mixed: bool) -> str:
    """What to do; `mixed` says that the first of them is more than one package by itself."""
    import shlex

    # A source tree is on the path because somebody put it there; it is not for us to delete.
    trees = [provider.folder.parent for provider in every if not provider.distributions]
    installed = [provider.folder for provider in every if provider.distributions]
    steps = []
    if trees:
        which = "" if installed else "all but one of "
        steps.append(f"take {which}{_listed(trees)} off sys.path (PYTHONPATH)")
    if mixed or len(installed) > 1:
        pip = f"{shlex.quote(sys.executable or 'python')} -m pip"
        steps.append(
            f"run `{pip} uninstall --yes {_NAME}` until it uninstalls none, delete what is left of "
            f"{_listed(installed or [every[0].folder])} and of {_NAME}-*.dist-info beside, and run "
            f'`{pip} install --no-index --find-links WHEELHOUSE "{_NAME}=={__version__}"`'
        )
    return f"To keep one, {'; '.join(steps)}"


def _listed(things: Iterable[object]) -> str:
    return " and ".join(map(str, things))


# ------------------------------------------------------------------------------------- looking


def _own_folder() -> str:
    return os.path.dirname(os.path.abspath(__file__))


def _search_path() -> list[str]:
    """The entries of ``sys.path`` where an `instanttensor` can lie, each once."""
    folders: dict[str, None] = {}
    for entry in sys.path:
        # What is no string the import system passes over too.
        if isinstance(entry, str):
            try:
                folders[os.path.abspath(entry)] = None
            except OSError:
                # "" is the current folder, and that one has been deleted.
                continue
    # Nobody installs into Python's own library, and listing it takes a third of the time.
    library = os.path.dirname(os.__file__)
    return [folder for folder in folders if folder not in (library, f"{library}/lib-dynload")]


def _names(folder: str, prefix: str = _NAME) -> list[str]:
    """The names in a folder that begin so, sorted; none where it cannot be listed."""
    try:
        return sorted(name for name in os.listdir(folder) if name.startswith(prefix))
    except (OSError, ValueError):
        return []


def _importable(entry: str, names: list[str], known: set[str]) -> str | None:
    """Where an import from this entry of the path would find the name, unless that place is known."""
    if _NAME in names and os.path.realpath(os.path.join(entry, _NAME)) in known:
        return None
    if not any(name.split(".")[0] == _NAME for name in names) and not os.path.isfile(entry):
        return None
    try:
        from importlib.machinery import PathFinder

        # Of archives too, which only Python's own finders can look into.
        spec = PathFinder.find_spec(_NAME, [entry])
    except Exception:
        return None
    if spec is None or spec.origin is None:
        return None
    place = os.path.dirname(spec.origin) if spec.submodule_search_locations is not None else spec.origin
    return None if os.path.realpath(place) in known else place


def _distributions(folder: str, names: list[str]) -> tuple[str, ...]:
    found = []
    for name in names:
        stem, kind = os.path.splitext(name)
        if kind in (".dist-info", ".egg-info") and stem.startswith(f"{_NAME}-") and _has_metadata(folder, name):
            # Eggs name Python's version too.
            found.append(" ".join(stem.split("-")[:2]))
    return tuple(found)


def _has_metadata(folder: str, name: str) -> bool:
    # What pip does not see as installed, an emptied folder for instance, it cannot uninstall.
    path = os.path.join(folder, name)
    return any(os.path.isfile(file) for file in (f"{path}/METADATA", f"{path}/PKG-INFO", path))


def _recorded(site: str) -> set[str]:
    """The names in our folder that came with our wheel; empty where that is not known."""
    record = os.path.join(site, f"{_NAME}-{__version__}.dist-info", "RECORD")
    try:
        with open(record, encoding="utf-8", errors="replace") as lines:
            files = [line.split(",")[0].split("/") for line in lines]
    except OSError:
        return set()
    return {parts[1] for parts in files if parts[0] == _NAME and len(parts) > 1}
