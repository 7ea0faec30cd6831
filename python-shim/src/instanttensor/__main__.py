"""The commands of ``python -m instanttensor``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from . import _doctor
from ._version import __version__

# Each adds its parser, with a function `run` that takes the arguments and returns the exit status.
_COMMANDS = (_doctor.add_command,)
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m instanttensor", description="Loads safetensors checkpoints; see help(instanttensor.safe_open)."
    )
    parser.add_argument("--version", action="version", version=f"instanttensor {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add_command in _COMMANDS:
        add_command(commands)
    chosen = parser.parse_args(arguments)
    try:
        status: int = chosen.run(chosen)
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read has seen enough; what is still buffered has nowhere to go at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as e:
        print(f"The findings could not be printed: {e}", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
