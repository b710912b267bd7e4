"""`facedecode evaluate …`: a command for each evaluation, made of its job."""

from __future__ import annotations

import dataclasses
import functools
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import typer
import typer.main

from facedecode.cli.app import LazyGroup, command, group_of, start_torch
from facedecode.cli.console import Console
from facedecode.errors import GateMissed
from facedecode.evaluation import EVALUATIONS, Evaluation
from facedecode.evaluation.jobs import EvaluationJob
from facedecode.options import option, overwrite_option

if TYPE_CHECKING:  # these cost time that --help does not have
    from facedecode.report import Report
    from facedecode.report.gates import Gate


@dataclass(frozen=True)
class ReportOptions:
    """Where the report goes, and the gates."""

    output: Path | None = option(
        None,
        "Folder for the report: report.html, report.json, report.md, CSV, figures.",
        "--output",
        "-o",
        makes="folder",
    )
    overwrite: bool = overwrite_option()
    fail_if: Sequence[str] = option((), "Exit with code 5 where this holds: 'tar@far=0.001 < 0.9' (repeatable).")


class EvaluateGroup(LazyGroup):
    """The group of these commands."""

    sections: ClassVar = {"Evaluations": {name: (name, each.job.summary) for name, each in EVALUATIONS.items()}}

    def get_command(self, context: Any, name: str):
        """The command of that name; None where there is none."""
        return evaluation_command(name) if name in EVALUATIONS else None


@functools.cache
def evaluation_command(name: str):
    """The command of an evaluation, as the parser takes it."""
    evaluation = EVALUATIONS[name]

    def run(console: Console, job: EvaluationJob, report: ReportOptions) -> tuple[dict, dict]:
        return run_evaluation(console, evaluation, job, report)

    run.__annotations__["job"] = evaluation.job
    run.__doc__ = evaluation.job.help
    made = typer.main.get_command(command(f"evaluate {name}", run, evaluation.job.summary))
    made.name = name
    return made


def run_evaluation(
    console: Console, evaluation: Evaluation, job: EvaluationJob, options: ReportOptions
) -> tuple[dict, dict]:
    """Evaluate, and report it: (metrics, outputs) of the command.

    Raises:
        UsageError: a gate on a figure that there will not be.
        OutputError: the report cannot be written. Both are raised before the work.
        GateMissed: after everything is written.
    """
    from facedecode.output_folder import call_fingerprint
    from facedecode.report.folder import require_writable
    from facedecode.report.gates import parse_gate, rates_of

    gates = [parse_gate(condition) for condition in options.fail_if]
    call = call_fingerprint("evaluate", job, options.fail_if)
    job = job.with_rates(rates_of(gates, "far", "fmr"))
    if options.output is None:
        job = job.without_report()
    else:
        require_writable(options.output, options.overwrite, call)
    if gates:
        evaluation.schema(job).require(gates)
    job = job.on_device(start_torch)
    with console.progress() as stage:
        result = evaluation.evaluate(job, stage)
    metrics, outputs = finish(console, result.report(), options, gates, call)
    return metrics, outputs | job.outputs()


def finish(
    console: Console, report: Report, options: ReportOptions, gates: Sequence[Gate], call: str
) -> tuple[dict, dict]:
    """Show a report's headlines, write it, and put the gates to it: (metrics, outputs) of the command.

    call: see `report.folder.require_writable`.

    A gate whose figure could not be measured (nobody has two images …) is missed. Raises GateMissed: after everything
    is written.
    """
    from facedecode.provenance import environment
    from facedecode.report.folder import write_report
    from facedecode.report.gates import check_gates
    from facedecode.report.text import show_estimate

    provenance = {**report.provenance, "command": shlex.join(["facedecode", *sys.argv[1:]])}
    report = dataclasses.replace(report, provenance={**provenance, "environment": environment()})
    results = check_gates(gates, report.gates)
    outputs, output = {}, options.output
    if output is not None:
        write_report(report, output, results, options.overwrite, call)
        outputs["report"] = str(output)
    for line in report.headlines:
        note = f" ({line.note})" if line.note else ""
        console.data(f"{line.title}: {show_estimate(line.figure, line.unit)}{note}")
    for warning in report.warnings:
        console.warn(warning)
    if output is not None:
        console.say(f"look at {output / 'report.html'}")
    metrics = {**report.metrics, **({"gates": [result.as_json() for result in results]} if results else {})}
    if missed := [result for result in results if not result.passed]:
        listed = "; ".join(f"{r.gate.text} ({'no number' if r.value is None else f'{r.value:.4g}'})" for r in missed)
        raise GateMissed(f"{len(missed)} of {len(results)} gates missed: {listed}", metrics, outputs)
    return metrics, outputs


app = group_of(EvaluateGroup, "Measure stores and decoders: figures with intervals, and reports of them.")
