"""What all evaluations share: options, gates, and how a report reaches the user."""

from __future__ import annotations

import dataclasses
import math
import shlex
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facedecode.cli.checks import Input
from facedecode.cli.console import Console
from facedecode.errors import GateMissed, UsageError
from facedecode.options import option

if TYPE_CHECKING:  # these cost time that --help does not have
    from facedecode.evaluation.result import Result, Schema
    from facedecode.report import Report
    from facedecode.report.gates import Gate
    from facedecode.statistics.bootstrap import Estimate

Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Folder for the report: report.html, report.json, report.md, CSV, figures."),
]
FailIf = Annotated[
    list[str] | None,
    typer.Option("--fail-if", help="Exit with 5 where this holds: 'tar@far=0.001 < 0.9' (repeatable)."),
]
Repetitions = Annotated[int, typer.Option("--repetitions", min=100, help="Replicates of the person bootstrap.")]
People = Annotated[
    Path | None, typer.Option("--people", help="Only these people: a name a line, or LFW's format."), Input("file")
]
Against = Annotated[
    list[Path] | None,
    typer.Option("--against", help="Store of the same images by another recognizer, as a further judge (repeatable)."),
    Input("store"),
]
JudgeWeights = Annotated[
    list[str] | None,
    typer.Option("--weights", help="NAME=FILE: a recognizer's weights, where no package has them (repeatable)."),
    Input("labeled weights"),
]
Decoders = Annotated[
    list[str],
    typer.Option(
        "--decoder", help="A decoder's folder or a recognizer's name (shipped); NAME=… labels it (repeatable)."
    ),
    Input("labeled decoder"),
]


def parse_gates(conditions: list[str] | None, words: Collection[str]) -> list[Gate]:
    """The gates of --fail-if, refused before the work where the evaluation has no figure of that name.

    Args:
        words: the first words of the figures' names (`tar`, `eer` …).
    """
    from facedecode.report.gates import parse_gate

    gates = [parse_gate(condition) for condition in conditions or []]
    for gate in gates:
        word = gate.name.partition("@")[0].partition("[")[0]
        if word not in words:
            raise UsageError(f"--fail-if {gate.text!r}: no figure {word!r}; there are {', '.join(sorted(words))}")
    return gates


@dataclass(frozen=True)
class ReportOptions:
    """Where the report goes, and the gates."""

    output: Path | None = option(
        None, "Folder for the report: report.html, report.json, report.md, CSV, figures.", "--output", "-o"
    )
    overwrite: bool = option(False, "Replace an output that is there.")
    fail_if: Sequence[str] = option((), "Exit with 5 where this holds: 'tar@far=0.001 < 0.9' (repeatable).")

    def gates(self) -> list[Gate]:
        """The gates, read. UsageError for a condition that is none."""
        from facedecode.report.gates import parse_gate

        return [parse_gate(condition) for condition in self.fail_if]


def run(
    console: Console,
    options: ReportOptions,
    schema: Callable[[], Schema],
    work: Callable[[Callable[[str], Callable[[int, int], None]]], Result],
) -> tuple[dict, dict]:
    """Run an evaluation and report it: (metrics, outputs) of the command.

    Args:
        schema: the figures that there will be; asked only if there are gates.
        work: makes the result; it gets what makes a progress bar of a title.

    Raises:
        UsageError: a gate on a figure that there will not be.
        OutputError: the report cannot be written. Both are raised before the work.
        GateMissed: after everything is written.
    """
    gates = options.gates()
    refuse_output(options.output, options.overwrite)
    if gates:
        schema().require(gates)
    with console.progress() as stage:
        result = work(stage)
    return finish(console, result.report(), options.output, options.overwrite, gates)


def refuse_unknown(gates: Sequence[Gate], names: Collection[str]) -> None:
    """Say before the work that there will be no figure of a gate's name. Raises UsageError."""
    from facedecode.report.gates import check_gates

    check_gates(gates, dict.fromkeys(names, _no_figure()))


def _no_figure() -> Estimate:
    from facedecode.statistics.bootstrap import Estimate

    return Estimate(math.nan, None, None, 0)


def refuse_output(output: Path | None, overwrite: bool) -> None:
    """Say before the work, not after it, that the report cannot be written there."""
    if output is not None:
        from facedecode.report.folder import require_writable

        require_writable(output, overwrite)


def finish(
    console: Console, report: Report, output: Path | None, overwrite: bool, gates: Sequence[Gate]
) -> tuple[dict, dict]:
    """Show a report's headlines, write it, and put the gates to it: (metrics, outputs) of the command.

    A gate whose figure could not be measured (nobody has two images …) is missed.

    Raises:
        GateMissed: after everything is written.
    """
    from facedecode.provenance import environment
    from facedecode.report.folder import write_report
    from facedecode.report.gates import check_gates
    from facedecode.report.text import show_estimate

    provenance = {**report.provenance, "command": shlex.join(["facedecode", *sys.argv[1:]])}
    report = dataclasses.replace(report, provenance={**provenance, "environment": environment()})
    results = check_gates(gates, {**dict.fromkeys((gate.name for gate in gates), _no_figure()), **report.gates})
    outputs = {}
    if output is not None:
        write_report(report, output, results, overwrite)
        outputs["report"] = str(output)
    for line in report.headlines:
        note = f" ({line.note})" if line.note else ""
        console.data(f"{line.title}: {show_estimate(line.figure, line.unit)}{note}")
    for warning in report.warnings:
        console.say(f"warning: {warning}")
    if output is not None:
        console.say(f"look at {output / 'report.html'}")
    metrics = {**report.metrics, **({"gates": [result.as_json() for result in results]} if results else {})}
    if missed := [result for result in results if not result.passed]:
        said = "; ".join(f"{r.gate.text} ({'no number' if r.value is None else f'{r.value:.4g}'})" for r in missed)
        raise GateMissed(f"{len(missed)} of {len(results)} gates missed: {said}", metrics, outputs)
    return metrics, outputs
