"""Prints results as Markdown: machine, all rows against all loaders with their bars, memory.

    python tests/bench/report.py RESULTS...

RESULTS are the files results.jsonl of one machine. A loader that was run over a row several times counts with its
last run.
"""

import argparse
import os
import sys

import bars
import results as results_of
from cases import CASES
from loaders import LOADERS

NONE = "–"
MEMORY = (
    "Memory of one load more, above what it was before the first open: of the GPU by cuMemGetInfo; resident is "
    "RssAnon + RssFile + RssShmem, less our pinned memory where Linux counts that. Without a GPU tensors are in it."
)


def table(columns, rows):
    """In Markdown; the first column is text, the others are figures."""
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def statement(found):
    """Lines that say where the figures come from."""
    lines = []
    for machine in found.machines():
        versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
        where = ", ".join(machine[name] for name in ("gpu", "cpus", "memory", "kernel", "python"))
        lines.append(f"{where}, {versions}.")
    if len(lines) > 1:
        lines.insert(0, "These runs are of different machines, and nothing compares:")
    runs = sorted(record["run"] for record in found.of_kind("run"))
    if runs:
        lines.append(f"Measured {runs[0]}{f' to {runs[-1]}' if runs[1:] else ''}.")
    commits = {record["machine"]["commit"] for record in found.of_kind("run")} - {None}
    if commits:
        plus = " (+: with changes)" if any(commit.endswith("+") for commit in commits) else ""
        lines.append(f"Commit {', '.join(sorted(commits))}{plus}.")
    rates = [(loader, found.pinned_rate(loader=loader)) for loader in found.loaders()]
    rates = [f"{loader} {rate:.1f}" for loader, rate in rates if rate is not None]
    if rates:
        lines.append(f"L, pinned host to device in 1 GiB blocks, GB/s, by loader's processes: {', '.join(rates)}.")
    else:
        lines.append("No L, the rate of copies from pinned memory to a GPU: nothing was measured on one.")
    lines.append(f"{NONE}: not measured. What bars say is explained in tests/bench/bars.py.")
    return "\n\n".join(lines)


def cell(found, case, loader, which):
    """One figure, with its unit where that is not GB/s."""
    seconds = found.seconds(case.name, loader, which)
    if seconds is None:
        return NONE
    if case.unit == "ms":
        return f"{seconds * 1e3:.1f} ms"
    rate = found.gigabytes_per_second(case.name, loader, which)
    return f"{rate * 1e3:,.0f} MB/s" if case.unit == "MB/s" else f"{rate:.1f}"


def judged(found, case, which):
    """Bars of a line of the table, and their verdicts: those of "open", "python" and "settled" with the last."""
    verdicts = []
    for bar in case.bars:
        figure = bars.parse(bar)["figure"]
        if figure == which or (figure in ("open", "python", "settled") and which == case.shown[-1]):
            verdicts.append(bars.judge(found, case, bar))
    return verdicts


def told(verdicts):
    return "; ".join(f"{v.word} ({v.found})" if v.found else v.word for v in verdicts)


def growth_rows(found, case, loaders):
    """A line for each point."""
    rows = []
    for point in sorted({a["point"] for loader in loaders for a in found.answers(case.name, loader)}):
        answer = next(a for loader in loaders for a in found.answers(case.name, loader, point))
        label = f"{answer['bytes'] / 1e9:.2f} GB, {answer['tensors']:,} tensors"
        cells = []
        for loader in loaders:
            seconds = found.seconds(case.name, loader, "later", point)
            cells.append(NONE if seconds is None else f"{seconds * 1e3:.1f} ms")
        rows.append([f"{case.name}: {label}", "later", *cells, NONE, "", ""])
    verdicts = judged(found, case, "later")
    rows[-1][-2:] = ["; ".join(v.bar for v in verdicts), told(verdicts)]
    return rows


def main_table(found, cases):
    """All rows against all loaders."""
    loaders = found.loaders()
    rows = []
    for case in cases:
        if case.grows:
            rows += growth_rows(found, case, loaders)
            continue
        for which in case.shown:
            answers = [a for loader in loaders for a in found.answers(case.name, loader)]
            small = "" if answers[0]["size"] == "full" else f" (small: {answers[0]['bytes'] / 1e9:.2f} GB)"
            ratio = found.ratio(case.name, "ours", which) if case.unit == "GB/s" else None
            verdicts = judged(found, case, which)
            rows.append([
                f"{case.name}: {case.title}{small}", which, *(cell(found, case, loader, which) for loader in loaders),
                NONE if ratio is None else f"{ratio:.2f}", "; ".join(v.bar for v in verdicts), told(verdicts),
            ])  # fmt: skip
    return table(["GB/s, or ms", "open", *loaders, "ours / L", "bar", "verdict"], rows)


def memory_table(found, cases):
    """MiB by row and loader, where a load was watched; device memory / growth of resident memory, for ours more."""
    loaders = [loader for loader in found.loaders() if loader != "plain-direct"]
    rows = []
    for case in cases:
        if all(found.memory(case.name, loader, "resident") is None for loader in loaders):
            continue
        row = [case.name]
        for loader in loaders:
            numbers = (found.memory(case.name, loader, what) for what in ("device", "resident"))
            row.append(" / ".join(NONE if number is None else f"{number:,.0f}" for number in numbers))
        for what in ("pinned", "slabs"):
            number = found.memory(case.name, "ours", what)
            row.append(NONE if number is None else f"{number:,.0f}")
        sentences = [bar for bar in case.bars if bars.parse(bar)["figure"] == "device"]
        sentences += bars.MEMORY_BARS
        verdicts = [bars.judge(found, case, bar) for bar in sentences]
        row += ["; ".join(v.bar for v in verdicts), told(verdicts)]
        rows.append(row)
    head = ["MiB: device / resident", *loaders, "ours: pinned", "ours: slabs", "bar", "verdict"]
    return f"{MEMORY}\n\n{table(head, rows)}" if rows else ""


def notes(found):
    """What is not in the tables, and why."""
    lines = [
        f"{record['case']} left out: {record['why']}"
        for record in found.of_kind("left out") if not found.loaders(record["case"])
    ] + [
        f"{LOADERS[record['loader']].title} left out: {record['why']}"
        for record in found.of_kind("without") if record["loader"] not in found.loaders()
    ]  # fmt: skip
    lines += [f"{record['case']}, {record['loader']}: {record['error']}" for record in found.of_kind("failed")]
    lines += [f"{record['case']}, {record['loader']}: {record['why']}" for record in found.of_kind("differs")]
    lines += [f"{record['case']}: {record['what']}" for record in found.of_kind("compared")]
    if any(answer["device"] == "cpu" for case in CASES for answer in found.answers(case.name, "safetensors")):
        lines.append(
            "on a CPU, safetensors maps its files and reads nothing: its tensors were cloned, to read their bytes"
        )
    for case in CASES:
        if len(found.runs(case.name)) > 1:
            lines.append(f"{case.name}: the loaders were measured in different runs")
    return "\n".join(f"- {line}" for line in dict.fromkeys(lines))


def render(records, cases=None):
    """The whole text, of all rows or of some."""
    found = results_of.Results(records)
    cases = [case for case in (CASES if cases is None else cases) if found.loaders(case.name)]
    parts = [statement(found)]
    if cases:
        parts += [main_table(found, cases), memory_table(found, cases)]
    return "\n\n".join(part for part in [*parts, notes(found)] if part) + "\n"


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+")
    arguments = parser.parse_args(argv)
    for path in arguments.results:
        if not os.path.isfile(path):
            parser.error(f"{path} is no file")
    print(render(results_of.read(arguments.results)), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
