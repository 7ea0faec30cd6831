"""Draws results: throughput by loader and case, growth, and slow storages, as PNG.

    python tests/bench/plots.py RESULTS... FOLDER

RESULTS are files results.jsonl; FOLDER gets throughput.png, growth.png and storage.png, as far as there are figures for
them.
"""

import sys
from pathlib import Path

import bars
import matplotlib
import numpy as np
import results as results_of
import storage_rows
from cases import CASES

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

DOTS_PER_INCH = 130
COLOURS = {
    "ours": "#c0392b", "ours-copy": "#e59a8f", "cpp": "#1f5f99", "cpp-copy": "#8fb8dc",
    "fastsafetensors": "#5a8f3d", "runai": "#8a6bb0", "safetensors": "#8c8c8c", "plain-direct": "#000000",
}  # fmt: skip
PEERS = (*storage_rows.PEERS, "plain-direct")


def throughput(found, path):
    """Grouped bars of the later opens' rates, with a line at L; answers whether there was anything to draw."""
    cases = [case for case in CASES if case.unit == "GB/s" and found.loaders(case.name)]
    if not cases:
        return False
    drawn = {loader for case in cases for loader in found.loaders(case.name)}
    loaders = [loader for loader in COLOURS if loader in drawn]
    figure, axes = plt.subplots(figsize=(max(7, 1.9 * len(cases)), 4.5))
    width = 0.84 / len(loaders)
    for number, loader in enumerate(loaders):
        # Where a process opened once, that is what there is.
        rates = [
            found.gigabytes_per_second(case.name, loader, "later")
            or found.gigabytes_per_second(case.name, loader, "first") or 0
            for case in cases
        ]  # fmt: skip
        places = np.arange(len(cases)) + (number - (len(loaders) - 1) / 2) * width
        axes.bar(places, rates, width, label=loader, color=COLOURS[loader])
        for place, rate in zip(places, rates):
            if not rate:
                axes.text(place, 0, "–", ha="center", va="bottom", fontsize="small", color="grey")
    limit = found.pinned_rate()
    if limit is not None:
        axes.axhline(limit, color="black", linestyle="--", linewidth=1, label=f"L: {limit:.1f} GB/s from pinned memory")
        axes.set_ylim(top=1.06 * max(limit, axes.get_ylim()[1] / 1.05))
    axes.set_xticks(range(len(cases)), [case.name for case in cases])
    axes.set_ylabel("GB/s, later opens (the first of who had no other)\n–: not measured")
    axes.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=4)
    _save(figure, path)
    return True


def growth(found, path):
    """Time over bytes and time over tensors, with the straight line; answers whether there was anything to draw."""
    cases = [case for case in CASES if case.grows and found.loaders(case.name)]
    if not cases:
        return False
    figure, all_axes = plt.subplots(1, len(cases), figsize=(5.5 * len(cases), 4), squeeze=False)
    for case, axes in zip(cases, all_axes[0]):
        for loader in found.loaders(case.name):
            points = found.growth(case.name, loader)
            x = np.array([size / 1e9 if case.grows == "bytes" else tensors / 1e3 for size, tensors, _ in points])
            seconds = np.array([seconds for _, _, seconds in points])
            axes.plot(x, seconds * 1e3, "o", color=COLOURS[loader], label=loader)
            if len(points) > 1:
                slope, start = bars.straight_line(list(zip(x, seconds)))
                per = f"{slope * 1e3:.1f} ms a GB" if case.grows == "bytes" else f"{slope * 1e3:.2f} µs a tensor"
                ends = np.array([0, x.max()])
                label = f"{start * 1e3:.1f} ms and {per}"
                axes.plot(ends, (start + slope * ends) * 1e3, color=COLOURS[loader], linewidth=1, label=label)
        axes.set_xlabel("GB" if case.grows == "bytes" else "thousands of tensors")
        axes.set_ylabel("ms, later opens")
        axes.set_ylim(bottom=0)
        axes.legend(fontsize="small")
    _save(figure, path)
    return True


def storage(found, path):
    """Rates on slow storages, one set by hand among them: the best of each; answers whether there were any."""
    cases = [case for case in storage_rows.rows(storage_rows.FULL_FILE_MIB) if found.loaders(case.name)]
    if not cases:
        return False
    shown = {"ours": ("ours",), "ours, best set by hand": storage_rows.HAND, **{name: (name,) for name in PEERS}}
    figure, axes = plt.subplots(figsize=(max(7, 1.9 * len(cases)), 4.5))
    width = 0.84 / len(shown)
    for number, (label, loaders) in enumerate(shown.items()):
        rates = [
            1e3 * max(found.gigabytes_per_second(case.name, loader, "first") or 0 for loader in loaders)
            for case in cases
        ]  # fmt: skip
        places = np.arange(len(cases)) + (number - (len(shown) - 1) / 2) * width
        axes.bar(places, rates, width, label=label, color=COLOURS.get(label, "#f0c4be"))
    axes.set_xticks(range(len(cases)), [case.name for case in cases])
    axes.set_yscale("log")
    axes.set_ylabel("MB/s, first open")
    axes.legend(fontsize="small")
    _save(figure, path)
    return True


def _save(figure, path):
    figure.tight_layout()
    figure.savefig(path, dpi=DOTS_PER_INCH)
    plt.close(figure)


def draw(records, folder):
    """Draws what can be drawn of records; answers the files."""
    found = results_of.Results(records)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = [
        (throughput, folder / "throughput.png"), (growth, folder / "growth.png"), (storage, folder / "storage.png")
    ]  # fmt: skip
    return [path for paint, path in files if paint(found, path)]


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    print(*draw(results_of.read(sys.argv[1:-1]), sys.argv[-1]), sep="\n")
