"""Which tensors a `tensor_filter` selects."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from typing import Any

MODES = ("glob", "exact", "regex")


def matcher(patterns: Sequence[str] | None, mode: str) -> Callable[[str], bool] | None:
    """Compiles a filter; None selects everything.

    Parameters
    ----------
    patterns : sequence of str or None
        A tensor is selected when any of them matches its whole name; an empty sequence selects none.
    mode : {"glob", "exact", "regex"}
        How all of them are read. Case counts in each.

    Raises
    ------
    TypeError, ValueError
        Naming the argument and what is allowed.
    """
    if mode not in MODES:
        raise ValueError(f"tensor_name_match_mode={mode!r}: expected one of {', '.join(MODES)}")
    if patterns is None:
        return None
    checked = _checked(patterns)
    if mode == "exact":
        return frozenset(checked).__contains__
    names = set()
    expressions = []
    for pattern in checked:
        if mode == "glob" and not any(char in pattern for char in "*?["):
            names.add(pattern)
            continue
        try:
            expressions.append(re.compile(fnmatch.translate(pattern) if mode == "glob" else pattern))
        except re.error as error:
            raise ValueError(f"tensor_filter: {pattern!r} is no regular expression: {error}") from None
    return lambda name: name in names or any(expression.fullmatch(name) for expression in expressions)


def described(patterns: Sequence[str] | None, mode: str) -> str:
    """A checked filter, for messages."""
    return "no tensor_filter" if patterns is None else f"tensor_filter={list(patterns)!r} ({mode})"


def _checked(patterns: Any) -> list[str]:
    if isinstance(patterns, (str, bytes)):
        raise TypeError(f"tensor_filter: expected a list of str, got a single {type(patterns).__name__}")
    try:
        checked = list(patterns)
    except TypeError:
        raise TypeError(f"tensor_filter: expected a list of str, got {type(patterns).__name__}") from None
    for pattern in checked:
        if not isinstance(pattern, str):
            raise TypeError(f"tensor_filter: expected a list of str, found a {type(pattern).__name__} in it")
    return checked
