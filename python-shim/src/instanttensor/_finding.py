"""What a check of `doctor` has found, and how it is told."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


class Finding(NamedTuple):
    """One line of `doctor`."""

    check: str
    """What was looked at: "java", "gpu", ..."""

    level: Literal["ok", "note", "fail"]
    """A note is worth knowing and ends no load; a failure does."""

    text: str
    """A sentence."""

    facts: dict[str, Any]
    """The same for programs, as JSON knows it."""


def ok(check: str, text: str, **facts: Any) -> Finding:
    return Finding(check, "ok", text, facts)


def note(check: str, text: str, **facts: Any) -> Finding:
    return Finding(check, "note", text, facts)


def fail(check: str, text: str, **facts: Any) -> Finding:
    return Finding(check, "fail", text, facts)


def sentence(said: BaseException | str) -> str:
    """An error's text on one line, with the file it is about before it."""
    text = str(said)
    if isinstance(said, OSError) and said.filename and said.strerror:
        text = f"{said.filename}: {said.strerror}"
    text = " ".join(text.split()) or type(said).__name__
    return text if text.endswith((".", "!", "?", ".)")) else f"{text}."


def size(count: float) -> str:
    """Bytes for people: 512 bytes, 4 MiB, 86.7 MiB."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count /= 1024
        unit += 1
    number = f"{count:.1f}".removesuffix(".0")
    return f"{number} {'byte' if number == '1' and unit == 0 else _UNITS[unit]}"


def plural(count: int, what: str) -> str:
    """1 file, 1,234 files."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")
