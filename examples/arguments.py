"""What the scripts here share: their options, the call that a report holds, and how an error ends them."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from facedecode.errors import FacedecodeError, OutputError
from facedecode.report import Report
from facedecode.report.folder import write_report


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse's `type`."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


# Options by name that several scripts have.
_SHARED: dict[str, dict[str, Any]] = {
    "--device": {"default": "cpu"},
    "--images": {"type": Path, "help": "folder of the images, if not where the store says"},
    "--overwrite": {"action": "store_true", "help": "replace an output that is there"},
    "--repetitions": {"type": positive, "default": 1000, "help": "of the bootstrap"},
    "--seed": {"type": int, "default": 0},
}


class Parser(argparse.ArgumentParser):
    """A script's options; its description is the first line of the script's docstring."""

    def __init__(self, docstring: str | None, *shared: str, output: str = "folder of the report") -> None:
        """shared: the names of options that other scripts have, too; `-o` and `--overwrite` are always there."""
        super().__init__(description=(docstring or "").partition("\n")[0])
        self.add_argument("-o", "--output", type=Path, required=True, help=output)
        for name in (*shared, "--overwrite"):
            self.add_argument(name, **_SHARED[name])


def refuse_existing(path: Path | None, overwrite: bool) -> None:
    """Refuse an output that is there already. Raises OutputError."""
    if path is not None and path.exists() and not overwrite:
        raise OutputError(f"{path} is there already; use --overwrite or another name")


def command_line(script: str, argv: Sequence[str] | None = None) -> str:
    """The call of a script, as it can be repeated. script: its `__file__`. argv: in place of the process's."""
    return shlex.join(["python", f"examples/{Path(script).name}", *(sys.argv[1:] if argv is None else argv)])


def finish(report: Report, arguments: argparse.Namespace) -> None:
    """Write a report to --output, and say where it is."""
    write_report(report, arguments.output, overwrite=arguments.overwrite)
    print(f"look at {arguments.output / 'report.html'}", file=sys.stderr)


def run(main: Callable[[], object]) -> None:
    """Run a script; an error is one line, and its exit code is the script's."""
    try:
        main()
    except FacedecodeError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
