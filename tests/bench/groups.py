"""Measures loaders where ranks load together, each in a process and on a GPU of its own.

    python tests/bench/groups.py FOLDER --ranks 2 --tp 2 [--pp 1] [--dp 1] [--ep 1] [--cpp-path DIR] [--check] ...

Ranks are laid out as groups (layouts.py says which rank is in which), and every group loads all of FOLDER together,
all groups at once: NCCL on GPUs, gloo without. Before the clock the communicators are warm, CUDA's context and our
JVM are up; after a barrier it runs from the call that opens to a synchronisation behind the last tensor. The figure is
the checkpoint's bytes over the seconds of the slowest rank. "ours-alone" and "safetensors" are one rank by itself.

L, which no loader can exceed, is the rate at which all ranks at once have pinned memory copied to their GPUs, over the
number of groups, each of which has to copy the whole checkpoint. Bars are those of two H200s in one group, and are
judged with two ranks in one group and the checkpoint of their row in cases.py ("moe"; with --small, "small").

A loader that fails, or takes longer than --limit, is named, its ranks are killed, and it is not tried again. Every
answer is appended to OUT/results.jsonl as it comes; the table is of this run alone. The exit status is 1 where our own
loader failed or has no checksum with --check, or --check found other bytes, on one rank or with one loader.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine
import results as results_of
from cases import Case, case_of
from layouts import KINDS, Layout
from loaders import is_ours
from report import render
from run import Log, compare, count, require_known, turns

TOGETHER = ("ours", "ours-copy", "cpp", "cpp-copy")
ALONE = ("ours-alone", "safetensors")
BARS = {
    "moe": (
        "ours first >= 70 GB/s", "ours first >= 1.6 of cpp,cpp-copy", "ours first >= 1.5 of ours-alone",
        "ours later >= 80 GB/s", "ours later >= 1.6 of cpp,cpp-copy", "ours later >= 1.5 of ours-alone",
    ),
    # Every rank gets all bytes: the slowest rank's rate is what each has at least.
    "small": ("ours first >= 18 GB/s", "ours later >= 18 GB/s"),
}  # fmt: skip
# Once a rank has failed, the others of ours are to fail within 10 s.
GRACE_SECONDS = 15
POLL_SECONDS = 0.05


def start(loader, groups, arguments, folder):
    """The processes of all ranks, one after the other; what they print goes to files in the folder."""
    words = [sys.executable, str(machine.HERE / "group_rank.py"), loader, str(arguments.folder)]
    words += ["--opens", str(arguments.opens), "--limit", str(arguments.limit), "--groups", json.dumps(groups)]
    words += [] if loader in ALONE else ["--meet", str(folder / "meeting")]
    words += ["--memory"] if arguments.memory else []
    words += ["--check"] if arguments.check else []
    for rank in range(sum(map(len, groups))):
        with open(folder / f"{rank}.out", "wb") as out, open(folder / f"{rank}.err", "wb") as err:
            environment = machine.environment(loader, arguments)
            yield subprocess.Popen([*words, "--rank", str(rank)], env=environment, stdout=out, stderr=err)


def wait(processes, limit_seconds):
    """Waits for the end of all.

    Returns
    -------
    tuple of int or None, list of int
        The rank that failed first; the ranks that did not end in time.
    """
    deadline, first = time.monotonic() + limit_seconds, None
    while True:
        running = [rank for rank, process in enumerate(processes) if process.poll() is None]
        if first is None:
            first = next((rank for rank, process in enumerate(processes) if process.returncode), None)
            if first is not None:
                deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
        if not running or time.monotonic() > deadline:
            return first, running
        time.sleep(POLL_SECONDS)


def said(folder, rank):
    """What a rank found last, None if nothing; and its own error, None if it told none."""
    lines = [line for line in results_of.read([folder / f"{rank}.out"]) if isinstance(line, dict)]
    found = [line for line in lines if "seconds" in line]
    return found[-1] if found else None, next((line["error"] for line in lines if "error" in line), None)


def load_once(loader, groups, arguments):
    """All ranks of one loader, once.

    Returns
    -------
    tuple of list or None, str or None
        Each rank's answer, None where one has none; and what went wrong.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        processes = []
        try:
            for process in start(loader, groups, arguments, folder):
                processes.append(process)
            failed, late = wait(processes, arguments.limit)
        finally:
            for process in processes:
                process.kill()
                process.wait()
        told = [said(folder, rank) for rank in range(len(processes))]
        error = None
        if failed is not None:
            stderr = (folder / f"{failed}.err").read_text(errors="replace")
            status = f"exit status {processes[failed].returncode}"
            error = f"rank {failed}: {told[failed][1] or machine.last_line(stderr, status)}"
            if late:
                error += f"; {GRACE_SECONDS} s later still running: {', '.join(f'rank {rank}' for rank in late)}"
        elif late:
            error = f"not within {arguments.limit:g} s: {', '.join(f'rank {rank}' for rank in late)}"
    answers = [answer for answer, _ in told]
    if None in answers:
        return None, error or "no figures"
    return answers, error


def most(values):
    """The largest of each number, of what ranks found in one form; None where they have none."""
    if isinstance(values[0], dict):
        return {name: most([value[name] for value in values]) for name in values[0]}
    return None if values[0] is None else max(values)


def combined(answers, groups):
    """One answer of all ranks: of times and memory the most; the first rank's checksum."""
    together = [len(answers) * min(rates) for rates in zip(*(answer["pinned_rates"] for answer in answers))]
    gathers = [answer["gather_rate"] for answer in answers if answer["gather_rate"] is not None]
    found = {
        **answers[0],
        **{name: [max(each) for each in zip(*(a[name] for a in answers))] for name in ("seconds", "open_seconds")},
        "rank_seconds": [answer["seconds"] for answer in answers],
        "boot_seconds": most([answer["boot_seconds"] for answer in answers]),
        "pinned_rate": max(together) / groups if together else None,
        "gather_rate": min(gathers, default=None),
    }
    if all("memory" in answer for answer in answers):
        found["memory"] = most([answer["memory"] for answer in answers])
    return found


def differing(answers):
    """Which ranks found other bytes than the first; None if none did."""
    sums = [answer.get("checksum") for answer in answers]
    other = [f"rank {rank} {found}" for rank, found in enumerate(sums) if found != sums[0]]
    return f"its checksum over all tensors is {sums[0]} on rank 0, and on {', '.join(other)}" if other else None


def is_full(kind, answer):
    """Whether a checkpoint is the one that the bars are about."""
    first, second = case_of(kind).full[0].numbers
    if kind == "small":
        return (answer["tensors"], answer["largest_bytes"]) == (first, second)
    return answer["bytes"] >= first * second * 1e9


def measure(case, kind, layout, loaders, arguments, log):
    """All rounds of all loaders."""
    failed = set()
    for turn, loader in turns(loaders, arguments.rounds):
        if loader in failed:
            continue
        groups = [[0]] if loader in ALONE else layout.groups()
        answers, error = load_once(loader, groups, arguments)
        told = {"case": case.name, "point": 0, "loader": loader}
        if answers is not None:
            answer = {**combined(answers, len(groups)), **told, "checkpoint": arguments.folder.name}
            log.add("answer", **answer, size="full" if is_full(kind, answer) else "small")
            rates = [f"{answer['bytes'] / seconds / 1e9:.2f}" for seconds in answer["seconds"]]
            print(f"{case.name}, round {turn + 1}: {loader} {', '.join(rates)} GB/s", file=sys.stderr)
            why = error is None and differing(answers)
            if why:
                log.failed = True
                log.add("differs", **told, why=why)
                print(f"{case.name}: {loader}: {why}", file=sys.stderr)
        if error is not None:
            failed.add(loader)
            log.failed |= is_ours(loader)
            log.add("failed", **told, error=error)
            print(f"{case.name}, round {turn + 1}: {loader} {error}", file=sys.stderr)


def limits(records):
    """What the machine can do, in a sentence; nothing without figures."""
    gathers = [record["gather_rate"] for record in records if record.get("gather_rate")]
    if not gathers:
        return ""
    return (
        "GB/s: the checkpoint's bytes over the seconds of the slowest rank. L is of all ranks at once, over the number "
        f"of groups. In-place all-gather of 128 MiB in every group at once: {max(gathers):.1f} GB/s."
    )


def finish(case, log):
    """The table of this run, and where it lies."""
    records = [record for record in results_of.read([log.path]) if record["run"] == log.run]
    text = "\n\n".join(part for part in (limits(records), render(records, [case])) if part)
    path = log.path.parent / f"{case.name}.md"
    path.write_text(text, encoding="utf-8")
    print(f"\n{text}\n{log.path}\n{path}")


def arguments_of(argv):
    """Arguments, and the layout that they say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("folder", type=Path, help="of safetensors files, in memory (checkpoints.py makes them)")
    add("--ranks", type=count, default=2, help="processes (%(default)s)")
    add("--tp", type=count, help="tensor parallel (what ranks are left)")
    add("--pp", type=count, default=1, help="pipeline stages (%(default)s)")
    add("--dp", type=count, help="data parallel (what ranks are left, or 1 without --tp)")
    add("--ep", type=count, default=1, help="expert parallel, within a stage (%(default)s)")
    add("--together", choices=KINDS, default="stage", help="the groups that load together (%(default)s)")
    add("--loaders", default=",".join((*TOGETHER, ALONE[0])), help="which: %(default)s; safetensors is there too")
    add("--rounds", type=count, default=1, help="of all loaders (%(default)s)")
    add("--opens", type=count, default=3, help="in one process (%(default)s)")
    add("--limit", type=float, default=90, help="seconds that one loader may take (%(default)s)")
    add("--small", action="store_true", help="FOLDER has 60,000 tensors of 64 KiB: judge the bars for those")
    add("--memory", action="store_true", help="load once more, and watch memory")
    add("--check", action="store_true", help="compare a checksum over every tensor, of all ranks and loaders")
    add("--device", choices=("cuda", "cpu"), help="GPUs if there are any")
    add("--cpp-path", help="a folder with the C++ package instanttensor")
    add("--out", type=Path, default=Path(".build/bench/groups"), help="for results (%(default)s)")
    arguments = parser.parse_args(argv)
    require_known(parser, "loaders", arguments.loaders, (*TOGETHER, *ALONE))
    per_stage = arguments.ranks // arguments.pp
    dp = arguments.dp or max(1, per_stage // arguments.tp if arguments.tp else 1)
    tp = arguments.tp or max(1, per_stage // dp)
    if tp * dp * arguments.pp != arguments.ranks:
        parser.error(f"tp {tp} x dp {dp} x pp {arguments.pp} are not {arguments.ranks} ranks")
    try:
        layout = Layout(tp, arguments.ep, dp, arguments.pp, arguments.together)
    except ValueError as error:
        parser.error(str(error))
    if not any(arguments.folder.glob("*.safetensors")):
        parser.error(f"{arguments.folder} holds no safetensors file")
    return arguments, layout


def main(argv):
    arguments, layout = arguments_of(argv)
    machine.DEVICE = arguments.device or machine.DEVICE
    if machine.DEVICE == "cuda":
        import torch

        if torch.cuda.device_count() < layout.ranks:
            sys.exit(f"{layout.ranks} ranks need {layout.ranks} GPUs, and this machine has {torch.cuda.device_count()}")
    kind = "small" if arguments.small else "moe"
    bars = BARS[kind] if layout.groups() == [[0, 1]] else ()
    case = Case(f"{kind}-{layout.name}", f"{arguments.folder.name} by ranks {layout}", (), (), bars)
    log = Log(arguments.out)
    log.add("run", machine=machine.state(arguments), rounds=arguments.rounds, opens=arguments.opens)
    loaders = []
    for loader in arguments.loaders.split(","):
        why = machine.missing(loader, arguments)
        loaders += [loader] if why is None else []
        if why is not None:
            log.add("without", loader=loader, why=why)
    try:
        if loaders:
            measure(case, kind, layout, loaders, arguments, log)
        if arguments.check:
            compare(case, results_of.read([log.path]), log.run, log)
    except KeyboardInterrupt:
        log.failed = True
        print("stopped; this is what there is:", file=sys.stderr)
    finish(case, log)
    return int(log.failed)


if __name__ == "__main__":
    # A run under a time limit ends as by Ctrl-C: with a table of what there is.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
