"""Measures all loaders side by side, and leaves results as JSON, a table in Markdown and plots.

    python tests/bench/run.py [--rows small,tiny] [--disk DIR] [--cpp-path DIR] [--check] [--out FOLDER]

Of the rows in cases.py those are run that this machine can run; of each other one it says why not. Where a
checkpoint does not fit, or without a GPU, a row is run with its smaller size, and its bars are not judged.

Loaders take turns, each time in a new process (time_loader.py), in another order every round; the figures are
medians. A loader that fails, or takes longer than --limit, is not tried again in that row, and is named. Loaders
that cannot be imported are left out. Checkpoints are made in --folder, which should be in memory, and, for the rows
that want it, in --disk; they are removed at the end, those that an earlier run kept too, without --keep.

Every answer is appended to OUT/results.jsonl as it comes: what a run that is cut off has measured stays, and later
runs on the same machine with the same OUT add to it. Of a row that is run again the new figures count. report.py and
plots.py make tables and plots of such files again.

The exit status is 1 where our own loader failed or has no checksum with --check, or --check found a loader with other
bytes.
"""

import argparse
import json
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import results as results_of
from cases import CASES, case_of
from loaders import LOADERS, READ_ONLY, is_ours
from machine import DEVICE, HERE, environment, last_line, missing, state
from report import render
from storage import Storage

# Of the GPU's free memory, for what is kept there.
KEEP_PART = 0.9


class Log:
    """results.jsonl, appended to; each record carries this run's name."""

    def __init__(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "results.jsonl"
        self.run = time.strftime("%Y-%m-%d %H:%M:%S")
        self.failed = False
        if self.path.exists() and not self.path.read_bytes().endswith(b"\n"):
            # Cut off within a line: that one is lost, the next one should not be.
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n")

    def add(self, record, **fields):
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"record": record, "run": self.run, **fields}) + "\n")


def time_once(loader, folder, checkpoint, chosen, arguments, watch_memory):
    """One process: its JSON, or an error as text."""
    words = [loader, folder, arguments.opens, "--enough", arguments.enough]
    words += ["--consume", chosen.consume, "--cache", chosen.cache]
    words += ["--files", checkpoint.files] if checkpoint.files else []
    words += ["--cpus", chosen.cpus] if chosen.cpus else []
    words += ["--memory"] if watch_memory else []
    words += ["--check"] if watch_memory and arguments.check else []
    command = [sys.executable, str(HERE / "time_loader.py"), *map(str, words)]
    options = {"env": environment(loader, arguments), "capture_output": True, "text": True}
    try:
        done = subprocess.run(command, **options, timeout=arguments.limit, check=False)
        if done.returncode:
            return last_line(done.stderr, f"exit status {done.returncode}")
        return json.loads(done.stdout.strip().splitlines()[-1])
    except subprocess.TimeoutExpired as error:
        # What it said before the loads for memory and checksums, if they were what took so long.
        lines = (error.stdout or b"").decode(errors="replace").strip().splitlines()
        return json.loads(lines[-1]) if lines else f"not within {arguments.limit:g} s"
    except (ValueError, IndexError):
        return f"no figures: {done.stdout[-200:]!r}"


def device_too_small(chosen, size):
    """Why the GPU cannot keep all tensors of a row; None if it can or need not."""
    if DEVICE != "cuda" or chosen.consume not in ("keep", "parameter"):
        return None
    # Asked elsewhere: a context here would take from what loaders find.
    asked = [sys.executable, "-c", "import torch; print(torch.cuda.mem_get_info()[0])"]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    free, needed = int(done.stdout) * KEEP_PART, sum(one.needed_bytes for one in size)
    return None if needed < free else f"the GPU has room for {free / 1e9:.1f} GB, {needed / 1e9:.1f} are needed"


def choose_size(chosen, storage, scale):
    """The name and the checkpoints of the size that fits; or None and why none does."""
    names = {"auto": ("full", "small") if DEVICE == "cuda" else ("small",)}.get(scale, (scale,))
    for name in names:
        size = getattr(chosen, name)
        # On a CPU tensors take the same memory.
        also = max(one.needed_bytes for one in size) if DEVICE == "cpu" else 0
        why = storage.too_small(size, also) or device_too_small(chosen, size)
        if why is None:
            return "full" if size == chosen.full else name, size
    return None, why


def turns(loaders, rounds):
    """Pairs of a round and a loader: in every round another one begins."""
    for turn in range(rounds):
        first = turn % len(loaders)
        for loader in loaders[first:] + loaders[:first]:
            yield turn, loader


def measure(chosen, size, storage, loaders, arguments, log, timed=None):
    """All rounds of one row; `timed` takes the place of `time_once`."""
    failed, timed = set(), timed or time_once
    name, wanted = size
    for point, checkpoint in enumerate(wanted):
        for turn, loader in turns(loaders, arguments.rounds):
            if loader in failed:
                continue  # it would only take the same time again
            folder = storage.folder / checkpoint.folder
            answer = timed(loader, folder, checkpoint, chosen, arguments, watch_memory=turn == 0)
            told = {"case": chosen.name, "point": point, "loader": loader}
            if isinstance(answer, str):
                failed.add(loader)
                log.failed |= is_ours(loader)
                log.add("failed", **told, error=answer)
            else:
                log.add("answer", **{**answer, **told, "size": name, "checkpoint": checkpoint.folder})
            shown = answer if isinstance(answer, str) else [round(seconds, 4) for seconds in answer["seconds"]]
            print(f"{chosen.name} {checkpoint.folder}, round {turn + 1}: {loader} {shown}", file=sys.stderr)


def compare(chosen, records, run, log):
    """Says which loaders of a row found other bytes than safetensors did, or than most did; and who was compared.

    A checksum that should be there and is not, since its load took too long, is none that agrees; of a loader that
    failed all is said.
    """
    own = [record for record in records if (record.get("case"), record["run"]) == (chosen.name, run)]
    failed = {record["loader"] for record in own if record["record"] == "failed"}
    sums, to_check = {}, {}
    for record in own:
        if record["record"] == "answer":
            if record["loader"] not in READ_ONLY and chosen.consume != "first":
                to_check.setdefault(record["point"], set()).add(record["loader"])
            if "checksum" in record:
                sums.setdefault(record["point"], {})[record["loader"]] = record["checksum"]
    for point, loaders in to_check.items():
        for loader in sorted(loaders - set(sums.get(point, ())) - failed):
            log.failed |= is_ours(loader)
            why = "it has no checksum to compare"
            log.add("differs", case=chosen.name, point=point, loader=loader, why=why)
            print(f"{chosen.name}: {loader}: {why}", file=sys.stderr)
    for point, by_loader in sums.items():
        expected = by_loader.get("safetensors") or statistics.mode(by_loader.values())
        for loader, found in by_loader.items():
            if found != expected:
                log.failed = True
                why = f"its checksum over all tensors is {found}, and should be {expected}"
                log.add("differs", case=chosen.name, point=point, loader=loader, why=why)
                print(f"{chosen.name}: {loader}: {why}", file=sys.stderr)
        if len(by_loader) == 1:
            print(f"{chosen.name}: one loader alone has a checksum: nothing to compare it with", file=sys.stderr)
        else:
            what = f"checksums over all tensors were compared of {', '.join(by_loader)}"
            log.add("compared", case=chosen.name, point=point, loaders=list(by_loader), what=what)


def draw_timeline(folder, arguments):
    """A timeline of the row "moe", by our loader; what it says."""
    words = [str(HERE / "timeline.py"), str(folder), str(arguments.out), "--device", DEVICE]
    options = {"env": environment("ours", arguments), "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, *words], **options, check=False)
    said = done.stderr if done.returncode else done.stdout
    print(f"timeline: {last_line(said, f'exit status {done.returncode}')}", file=sys.stderr)


def run_rows(rows, loaders, arguments, log, timed=None):
    """Measures rows, one after the other; `timed` takes the place of `time_once`."""
    places = {"memory": Storage(arguments.folder, True), "disk": arguments.disk and Storage(arguments.disk, False)}
    for storage in filter(None, places.values()):
        storage.claim()
    try:
        for chosen in rows:
            storage = places[chosen.where]
            taking_part = [loader for loader in loaders if loader in chosen.loaders]
            if storage is None or not taking_part:
                log.add("left out", case=chosen.name, why="none of its loaders" if storage else "no --disk")
                continue
            name, size = choose_size(chosen, storage, arguments.scale)
            if name is None:
                log.add("left out", case=chosen.name, why=size)
                continue
            try:
                storage.make_all(size)
            except OSError as error:
                log.add("left out", case=chosen.name, why=f"its checkpoint could not be made: {error}")
                continue
            measure(chosen, (name, size), storage, taking_part, arguments, log, timed)
            if arguments.check:
                compare(chosen, results_of.read([log.path]), log.run, log)
            if chosen.name == "moe" and "ours" in taking_part:
                draw_timeline(storage.folder / size[0].folder, arguments)
    except KeyboardInterrupt:
        log.failed = True
        print("stopped; this is what there is:", file=sys.stderr)
    finally:
        for storage in filter(None, places.values()):
            if not arguments.keep:
                storage.remove_all()
            storage.leave()


def finish(log, out):
    """Table and plots, and where they lie."""
    records = results_of.read([log.path])
    text = render(records)
    (out / "report.md").write_text(text, encoding="utf-8")
    if not any(record["record"] == "answer" and record["run"] == log.run for record in records):
        print("\nnothing was measured this time; what follows is of earlier runs, if there were any", file=sys.stderr)
    print(f"\n{text}")
    files = [log.path, out / "report.md", *out.glob("timeline.*")]
    try:
        from plots import draw

        files += draw(records, out)
    except ImportError as error:
        print(f"no plots: {error}", file=sys.stderr)
    print(*files, sep="\n")


def count(text):
    """A number of whatever there is at least one of, as argparse takes it."""
    if int(text) < 1:
        raise ValueError
    return int(text)


def names(text):
    return text.replace(" ", "")


def require_known(parser, option, named, known):
    """Ends the process where names with commas between them are not all known."""
    unknown = set(named.split(",")) - set(known)
    if unknown:
        parser.error(f"--{option}: no {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")


def arguments_of(argv):
    loaders = [loader for loader in LOADERS if any(loader in case.loaders for case in CASES)]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    rows = ",".join(case.name for case in CASES)
    add("--rows", type=names, default=rows, help="which, with commas between them: %(default)s")
    add("--loaders", type=names, default=",".join(loaders), help="which: %(default)s")
    add("--rounds", type=count, default=3 if DEVICE == "cuda" else 1, help="processes of each loader (%(default)s)")
    add("--opens", type=count, default=3 if DEVICE == "cuda" else 2, help="in one process (%(default)s)")
    add("--enough", type=float, default=30, help="no further open in a process after so many seconds (%(default)s)")
    add("--limit", type=float, default=300, help="seconds that one process may take (%(default)s)")
    add("--scale", choices=("auto", "full", "small"), default="auto", help="the size of rows: what fits, or this one")
    add("--check", action="store_true", help="compare a checksum over every tensor")
    add("--folder", type=Path, default=Path("/dev/shm"), help="in memory (%(default)s)")
    add("--disk", type=Path, help="a folder on disk")
    add("--cpp-path", help="a folder with the C++ package instanttensor")
    add("--out", type=Path, default=Path(".build/bench"), help="for results (%(default)s)")
    add("--keep", action="store_true", help="leave the checkpoints for the next run")
    arguments = parser.parse_args(argv)
    require_known(parser, "rows", arguments.rows, [case.name for case in CASES])
    require_known(parser, "loaders", arguments.loaders, loaders)
    if arguments.disk and not arguments.disk.is_dir():
        parser.error(f"--disk: {arguments.disk} is no folder")
    return arguments


def main(argv):
    arguments = arguments_of(argv)
    log = Log(arguments.out)
    log.add("run", machine=state(arguments), rounds=arguments.rounds, opens=arguments.opens)
    absent = {loader: missing(loader, arguments) for loader in arguments.loaders.split(",")}
    for loader, why in absent.items():
        if why is not None:
            log.add("without", loader=loader, why=why)
    rows = [case_of(name) for name in arguments.rows.split(",")]
    run_rows(rows, [loader for loader, why in absent.items() if why is None], arguments, log)
    finish(log, arguments.out)
    return int(log.failed)


if __name__ == "__main__":
    # A run under a time limit ends as by Ctrl-C: with a table of what there is.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
