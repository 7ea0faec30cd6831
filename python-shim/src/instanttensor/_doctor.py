"""``python -m instanttensor doctor``: what this machine has, and whether a load works on it."""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
from collections.abc import Iterator
from typing import Any

from . import _doctor_load as load
from . import _doctor_machine as machine
from ._finding import Finding, fail, ok

_DESCRIPTION = """\
Says in one sentence each what this machine has for loading (the package, Java, jep, the engine, JCuda, the NVIDIA
driver, GPUs, io_uring) and, for every PATH, what its storage can do and what a load from it would do. It does not
guess: it starts the engine, opens every PATH, and loads a tensor of it, 16 MiB at most.

Each line begins with ok, note (worth knowing, ends no load) or fail.
"""
_STATUS = """\
exit status: 0 where every load that was tried worked: from each PATH, or from a small checkpoint in memory where there
is none; to the first GPU if the driver shows one, else to the CPU, or to what --device says. A GPU that torch cannot
use is a failure, and so is a driver that does not work: --device cpu asks for the CPU alone. Without torch, numpy's
arrays are loaded to the CPU. 1 where one did not work, 2 for wrong arguments, 130 after Ctrl-C.
"""


def add_command(commands: Any) -> None:
    """Adds `doctor` to the commands of ``python -m instanttensor``."""
    parser = commands.add_parser(
        "doctor",
        help="say what this machine has, and whether a load works",
        description=_DESCRIPTION,
        epilog=_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="a safetensors file, a folder of them, or an index; each on its own"
    )
    parser.add_argument(
        "--device", type=_device, metavar="DEVICE", help="cpu, cuda or cuda:N; by default the first GPU, else the CPU"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object with the findings and their facts")
    parser.set_defaults(run=run)


def _device(text: str) -> str:
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", text):
        raise argparse.ArgumentTypeError(f"expected cpu, cuda or cuda:N, found {text!r}")
    return "cuda:0" if text == "cuda" else text


def run(arguments: argparse.Namespace) -> int:
    """Prints the findings; the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files need not be text.
        sys.stdout.reconfigure(errors="backslashreplace")
    found = []
    for finding in examine(arguments.paths, arguments.device):
        found.append(finding)
        if not arguments.json:
            print(f"{finding.level:<5}{finding.text}", flush=True)
    verdict = found[-1]
    if arguments.json:
        findings = [finding._asdict() for finding in found[:-1]]
        print(json.dumps({**verdict.facts, "verdict": verdict.text, "findings": findings}, indent=2))
    return 0 if verdict.level == "ok" else 1


def examine(paths: list[str], wanted: str | None) -> Iterator[Finding]:
    """All findings, the verdict last.

    Parameters
    ----------
    paths : list of str
        To load from; where it is empty, a checkpoint in memory is.
    wanted : str or None
        The device to load to; None: the first GPU, or the CPU where there is none.
    """
    found: list[Finding] = []

    def tell(findings: Iterator[Finding]) -> Iterator[Finding]:
        for finding in findings:
            found.append(finding)
            yield finding

    yield from tell(machine.software())
    engine, started = machine.start(found)
    yield from tell(iter([started]))
    yield from tell(machine.hardware(engine, wanted))
    device = wanted or machine.first_device(found)
    framework = machine.framework(found)
    refused = list(machine.refusal(framework, device))
    yield from tell(iter(refused))
    # Where the device is of no use, the files can still be looked at.
    target = load.Target(engine, framework, "cpu" if refused else device)
    of_machine = _failures(found)
    yield from tell(load.from_paths(target, paths) if paths else load.from_memory(target))
    yield _verdict(device, _failures(found), of_files=bool(paths) and not of_machine)


def _failures(found: list[Finding]) -> int:
    return sum(finding.level == "fail" for finding in found)


def _verdict(device: str, failures: int, *, of_files: bool) -> Finding:
    """`of_files`: what failed, if anything, has to do with what was to be loaded."""
    if not failures:
        return ok("verdict", f"A load to {device} works here.", works=True, device=device)
    why = "the line that begins with fail says" if failures == 1 else f"the {failures} lines that begin with fail say"
    what = f"Not every PATH can be loaded to {device}" if of_files else f"A load to {device} does not work here"
    return fail("verdict", f"{what}; {why} why.", works=False, device=device)
