"""Bars, as sentences that can be judged.

    LOADER FIGURE >= NUMBER L             the rate, over that of pinned memory
    LOADER FIGURE >= NUMBER GB/s          or MB/s
    LOADER FIGURE >= NUMBER of OTHER      the rate, over that of another loader of the row; of OTHER,OTHER: their best
    LOADER FIGURE >= NUMBER of case CASE  the rate, over its own in another case
    LOADER FIGURE <= NUMBER ms
    LOADER python <= NUMBER us            of each tensor: what is left of a load without opening and waiting for bytes
    LOADER FIGURE <= NUMBER times case CASE   the time, over its own in another case
    LOADER settled <= NUMBER requests     in flight at a storage at once, behind the first second and 5 % of the bytes
    LOADER FIGURE ahead of OTHER,OTHER    of each of them, by 10 % wherever that stays below 0.94 L
    LOADER FIGURE linear                  a row of growth: each point as near to a straight line as LINEAR says
    LOADER MEMORY <= NUMBER MiB
    LOADER MEMORY <= NUMBER largest       so many times the largest tensor, or 1 GiB where that is more

FIGURE is first or later, in ms open or boot too; MEMORY is device, slabs, pinned or resident: see `results`.
"""

import re
from dataclasses import dataclass

import numpy as np

AHEAD = 1.10
NEAR_L = 0.94
# A point may be off by this part of its time, or by so many seconds.
LINEAR = 0.15
LINEAR_SECONDS = 0.005
SLAB_FLOOR_MIB = 1024

# Hold for every row.
MEMORY_BARS = ("ours pinned <= 128 MiB", "ours slabs <= 3 largest", "ours resident <= 150 MiB")

_FORM = re.compile(
    r"(?P<loader>[\w-]+) (?P<figure>first|later|open|python|boot|device|slabs|pinned|resident|settled) "
    r"(?:(?P<comparison>>=|<=) (?P<number>[\d.]+) "
    r"(?P<unit>L|GB/s|MB/s|ms|us|MiB|requests|largest|times case (?P<timed>[\w-]+)|"
    r"of case (?P<case>[\w-]+)|of (?P<other>[\w,-]+))"
    r"|ahead of (?P<rivals>[\w,-]+)|(?P<linear>linear))"
)
# Others are of rates.
_MEMORY, _OF_RATES = ("device", "slabs", "pinned", "resident"), ("first", "later")
_FIGURES = {
    "us": ("python",), "ms": (*_OF_RATES, "open", "boot"), "requests": ("settled",), "MiB": _MEMORY, "largest": _MEMORY,
}  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What came of a bar.

    Attributes
    ----------
    bar : str
        The sentence.
    found : str
        The figure that it is about, with its unit.
    word : str
        "met", "missed", "no figure"; or "not judged" and why.
    """

    bar: str
    found: str
    word: str


def parse(sentence):
    """A bar's parts by name.

    Raises
    ------
    ValueError
        It has none of the forms above, or a figure in a unit that is not its own.
    """
    match = _FORM.fullmatch(sentence)
    if match is None or match["figure"] not in _FIGURES.get(match["unit"], _OF_RATES):
        raise ValueError(f"{sentence!r} is no bar")
    return {name: value for name, value in match.groupdict().items() if value is not None}


def judge(results, case, sentence):
    """Whether a case's figures meet a bar."""
    parts = parse(sentence)
    found, is_met = _compare(results, case, parts)
    answers = results.answers(case.name, parts["loader"])
    if answers and answers[0]["device"] not in case.judged_on:
        return Verdict(sentence, found, "not judged: no GPU")
    if is_met is None:
        return Verdict(sentence, "", "no figure")
    if len(results.machines()) > 1:
        return Verdict(sentence, found, "not judged: different machines")
    if any(answer["size"] != "full" for answer in answers):
        return Verdict(sentence, found, "not judged: small size")
    return Verdict(sentence, found, "met" if is_met else "missed")


def _compare(results, case, parts):
    """The figure as text, and whether it is met; None without one."""
    name, loader, figure = case.name, parts["loader"], parts["figure"]
    if "linear" in parts:
        return _linear(case, results.growth(name, loader))
    if "rivals" in parts:
        return _ahead(results, name, loader, figure, parts["rivals"].split(","))
    unit, number = parts["unit"], float(parts["number"])
    if unit in ("MiB", "largest"):
        value = results.memory(name, loader, figure)
        if unit == "largest" and value is not None:
            largest = max(answer["largest_bytes"] for answer in results.answers(name, loader)) / 2**20
            number = max(number * largest, SLAB_FLOOR_MIB)
        form = "{:,.0f} MiB"
    elif unit == "requests":
        value, form = results.settled(name, loader), "{:,.0f} requests"
    elif unit == "ms":
        seconds = results.seconds(name, loader, figure)
        value, form = seconds and seconds * 1e3, "{:.1f} ms"
    elif unit == "us":
        value, form = results.python_microseconds(name, loader), "{:.2f} µs"
    elif "timed" in parts:
        seconds, other = results.seconds(name, loader, figure), results.seconds(parts["timed"], loader, figure)
        value, form = seconds / other if seconds and other else None, "{:.2f} times"
    elif unit == "MB/s":
        rate = results.gigabytes_per_second(name, loader, figure)
        value, form = rate and rate * 1e3, "{:.0f} MB/s"
    elif unit == "L":
        value, form = results.ratio(name, loader, figure), "{:.2f} L"
    else:
        value, form = results.gigabytes_per_second(name, loader, figure), "{:.1f} GB/s"
        if unit.startswith("of "):
            return _over(value, number, _rates(results, parts.get("case", name), parts.get("other", loader), figure))
    if value is None:
        return "", None
    return form.format(value), value >= number if parts["comparison"] == ">=" else value <= number


def _rates(results, name, loaders, figure):
    return [results.gigabytes_per_second(name, loader, figure) for loader in loaders.split(",")]


def _over(own, number, rates):
    known = [rate for rate in rates if rate]
    if own is None or not known:
        return "", None
    is_met = own / max(known) >= number
    if is_met and len(known) < len(rates):
        # Of one that is not there nobody knows.
        return "", None
    return f"{own / max(known):.2f}", is_met


def _ahead(results, name, loader, figure, rivals):
    own, limit = results.gigabytes_per_second(name, loader, figure), results.pinned_rate()
    found = {
        rival: [rate for which in ("first", "later") if (rate := results.gigabytes_per_second(name, rival, which))]
        for rival in rivals
    }
    others = [rate for rates in found.values() for rate in rates]
    if own is None or limit is None or not others:
        return "", None
    needed = [rate * AHEAD if rate * AHEAD < NEAR_L * limit else rate for rate in others]
    is_ahead = all(own > rate for rate in needed)
    if is_ahead and not all(found.values()):
        # Of one that is not there nobody knows.
        return "", None
    return f"{own:.1f} against {max(others):.1f} GB/s", is_ahead


def straight_line(points):
    """Slope and start of the line through (x, seconds) that is nearest to each in proportion."""
    x, seconds = np.array(points, float).T
    return np.polyfit(x, seconds, 1, w=1 / seconds)


def _linear(case, growth):
    points = [(size if case.grows == "bytes" else tensors, seconds) for size, tensors, seconds in growth]
    if len(points) < 3:
        return "", None
    line = straight_line(points)
    off = [(abs(np.polyval(line, x) - seconds), seconds) for x, seconds in points]
    # The point that takes up most of what it is allowed.
    error, seconds = max(off, key=lambda one: one[0] / _allowance(one[1]))
    return f"at most {error / seconds:.1%} ({error * 1e3:.1f} ms) off a line", error <= _allowance(seconds)


def _allowance(seconds):
    """How far from the line a point may be."""
    return max(LINEAR * seconds, LINEAR_SECONDS)
