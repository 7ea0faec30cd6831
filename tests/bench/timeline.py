"""Records one load with Java's flight recorder, and draws its reads, copies and waits, thread by thread.

    python tests/bench/timeline.py FOLDER OUT [--device cpu] [--copy] [--opens 2] [--events FILE]

The last of so many opens is recorded. OUT gets timeline.json (events: kind, thread, start and end in seconds from
the call that opens, bytes) and timeline.png. The recorder is started, stopped and read through the JVM in this
process, so no JDK is needed. --events draws such a file again.

Above: what was read and copied, in GB/s. In the middle: the whole load; a bar for each thread, with what it read,
what it queued to copy, where it waited (for a staging buffer, for room), and white for all else. Below: some
milliseconds of it.
"""

import argparse
import glob
import json
import tempfile
import time
from pathlib import Path

import numpy as np

PREFIX = "io.instanttensor."
# What has events of its own today; others of the engine are recorded if it has them by default.
KINDS = ("Read", "Copy")
COLOURS = {"Read": "#3b78b0", "Copy": "#c0392b"}
OTHER_COLOUR = "#e0a030"
CLOSE_UP_SECONDS = 0.02
BINS = 200
DOTS_PER_INCH = 140


def load(files, device, copy):
    """One load; tensors are dropped."""
    from consuming import synchronize
    from instanttensor import safe_open

    with safe_open(files, framework="pt", device=0 if device == "cuda" else device, copy=copy) as f:
        for _name, _tensor in f.tensors():
            pass
        synchronize(device)


def record(files, device, copy, opens):
    """Loads `opens` times, and records the last.

    Returns
    -------
    dict
        "events", "seconds" of the load, and its files' bytes.
    """
    import torch
    from instanttensor import _bridge

    torch.zeros(1, device=device)
    # Java first: jep comes with it.
    _bridge.engine()
    import jep

    for turn in range(opens):
        # Those before are recorded as well, since the first use of an event costs 100 ms.
        recording = jep.findClass("jdk/jfr/Recording")()
        for kind in KINDS:
            recording.enable(PREFIX + kind).withoutThreshold()
        recording.start()
        start, clock = time.time(), time.perf_counter()
        load(files, device, copy)
        seconds = time.perf_counter() - clock
        recording.stop()
        if turn < opens - 1:
            recording.close()
    with tempfile.TemporaryDirectory() as folder:
        path = jep.findClass("java/nio/file/Path").of(f"{folder}/load.jfr")
        recording.dump(path)
        recording.close()
        events = [event for event in _events(jep, path) if event["end"] > start]
    for event in events:
        event["start"] -= start
        event["end"] -= start
    events.sort(key=lambda event: event["start"])
    return {"seconds": seconds, "bytes": sum(Path(file).stat().st_size for file in files), "events": events}


def _events(jep, path):
    """All events of the engine in a recording; times in seconds since 1970."""
    for event in jep.findClass("jdk/jfr/consumer/RecordingFile").readAllEvents(path).toArray():
        name = event.getEventType().getName()
        if not name.startswith(PREFIX):
            continue
        begin, end = event.getStartTime(), event.getEndTime()
        thread = event.getThread()
        yield {
            "kind": name.removeprefix(PREFIX),
            "thread": thread.getJavaName() or thread.getOSName(),
            "start": begin.getEpochSecond() + begin.getNano() / 1e9,
            "end": end.getEpochSecond() + end.getNano() / 1e9,
            "bytes": event.getLong("bytes") if event.hasField("bytes") else 0,
        }


def summary(recorded):
    """One line: what was read and copied, and the part of the load that a thread spent on each and on waiting."""
    events = recorded["events"]
    threads = {event["thread"] for event in events}
    parts = []
    for kind in dict.fromkeys(event["kind"] for event in events):
        own = [event for event in events if event["kind"] == kind]
        size, spent = sum(event["bytes"] for event in own), sum(event["end"] - event["start"] for event in own)
        share = spent / len(threads) / recorded["seconds"]
        moved = f"{size / 1e9:.2f} GB, " if size else ""
        parts.append(f"{kind}: {len(own):,} events, {moved}{share:.0%} of {len(threads)} threads' time")
    return f"{recorded['bytes'] / 1e9:.2f} GB in {recorded['seconds']:.3f} s; {'; '.join(parts)}"


def _bars(axes, events, threads, begin, end):
    """A bar for each thread between two moments."""
    lines = {thread: number for number, thread in enumerate(threads)}
    for kind in dict.fromkeys(event["kind"] for event in events):
        for thread, line in lines.items():
            spans = [
                (event["start"] * 1e3, max(event["end"] - event["start"], 2e-6) * 1e3)
                for event in events
                if event["kind"] == kind and event["thread"] == thread and event["end"] > begin and event["start"] < end
            ]
            axes.broken_barh(spans, (line - 0.4, 0.8), color=COLOURS.get(kind, OTHER_COLOUR), linewidth=0)
    axes.set_xlim(begin * 1e3, end * 1e3)
    axes.set_ylim(len(threads) - 0.5, -0.5)
    axes.set_yticks(range(len(threads)), threads, fontsize=6)


def _rates(axes, events, seconds):
    """GB/s over time, each event's bytes spread over its time."""
    edges = np.linspace(0, seconds, BINS + 1)
    for kind, colour in COLOURS.items():
        own = [event for event in events if event["kind"] == kind and event["bytes"]]
        if not own:
            continue
        begins, ends = (np.array([event[side] for event in own]) for side in ("start", "end"))
        sizes = np.array([event["bytes"] for event in own])
        lasting = np.maximum(ends - begins, 1e-9)
        done = [(np.clip((edge - begins) / lasting, 0, 1) * sizes).sum() for edge in edges]
        axes.step(edges[1:] * 1e3, np.diff(done) / np.diff(edges) / 1e9, color=colour, label=kind, linewidth=1)
    axes.set_xlim(0, seconds * 1e3)
    axes.set_ylabel("GB/s")
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))


def draw(recorded, path):
    """Draws a recording as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    events, seconds = recorded["events"], recorded["seconds"]
    threads = sorted({event["thread"] for event in events}, key=lambda name: (len(name), name))
    height = 0.6 + 0.16 * len(threads)
    figure, (rates, whole, close) = plt.subplots(
        3, 1, figsize=(11, 2 + 2 * height + 1.5), height_ratios=[2, height, height]
    )
    rates.set_title(summary(recorded).replace("; ", "\n", 1), fontsize=8)
    _rates(rates, events, seconds)
    _bars(whole, events, threads, 0, seconds)
    middle = max(0, seconds / 2 - CLOSE_UP_SECONDS / 2)
    _bars(close, events, threads, middle, min(seconds, middle + CLOSE_UP_SECONDS))
    close.set_xlabel("ms from the call that opens; blue: reads, red: queues copies, orange: waits, white: all else")
    figure.tight_layout()
    figure.savefig(path, dpi=DOTS_PER_INCH)
    plt.close(figure)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("folder", help="of safetensors files")
    add("out", type=Path)
    add("--device", choices=("cuda", "cpu"), help="a GPU if there is one")
    add("--copy", action="store_true", help="load with copy=True")
    add("--opens", type=int, default=2)
    add("--events", type=Path, help="draw this timeline.json, load nothing")
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.events:
        recorded = json.loads(arguments.events.read_text())
    else:
        from machine import DEVICE

        files = sorted(glob.glob(f"{arguments.folder}/*.safetensors"))
        if not files:
            parser.error(f"{arguments.folder} holds no safetensors file")
        recorded = record(files, arguments.device or DEVICE, arguments.copy, arguments.opens)
        (arguments.out / "timeline.json").write_text(json.dumps(recorded))
    print(summary(recorded))
    draw(recorded, arguments.out / "timeline.png")


if __name__ == "__main__":
    main()
