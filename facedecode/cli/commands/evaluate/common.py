"""What all evaluations share: where the report goes, gates, and how a result reaches the user."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facedecode.cli.console import Console
from facedecode.errors import GateMissed
from facedecode.options import option

if TYPE_CHECKING:  # these cost time that --help does not have
    from facedecode.evaluation.result import Result, Schema
    from facedecode.report.gates import Gate


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
    work: Callable[[Callable[[str], Callable[..., None]]], Result],
) -> tuple[dict, dict]:
    """Run an evaluation, show its key figures, write its report, and check the gates: (metrics, outputs).

    A gate on a figure that could not be measured (nobody has two images …) is missed.

    Args:
        schema: the figures that there will be; asked only if there are gates.
        work: makes the result; it gets what makes a progress bar of a title.

    Raises:
        UsageError: a gate on a figure that there will not be.
        OutputError: the report cannot be written. Both are raised before the work.
        GateMissed: after everything is written.
    """
    from facedecode.provenance import environment
    from facedecode.report.folder import require_writable, write_report
    from facedecode.report.gates import check_gates
    from facedecode.report.text import show_estimate

    gates, output = options.gates(), options.output
    if output is not None:
        require_writable(output, options.overwrite)
    if gates:
        schema().require(gates)
    with console.progress() as stage:
        report = work(stage).report()
    command = shlex.join(["facedecode", *sys.argv[1:]])
    provenance = {**report.provenance, "command": command, "environment": environment()}
    report = dataclasses.replace(report, provenance=provenance)
    results = check_gates(gates, report.gates)
    outputs = {}
    if output is not None:
        write_report(report, output, results, options.overwrite)
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
        listed = "; ".join(f"{r.gate.text} ({'no number' if r.value is None else f'{r.value:.4g}'})" for r in missed)
        raise GateMissed(f"{len(missed)} of {len(results)} gates missed: {listed}", metrics, outputs)
    return metrics, outputs
