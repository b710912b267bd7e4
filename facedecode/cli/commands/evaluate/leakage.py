"""`facedecode evaluate leakage`."""

from __future__ import annotations

from dataclasses import replace

from facedecode.cli.app import command, start_torch
from facedecode.cli.commands.evaluate import summary
from facedecode.cli.commands.evaluate.common import ReportOptions, run
from facedecode.cli.console import Console
from facedecode.evaluation.jobs import LeakageJob
from facedecode.options import ComputeOptions


def leakage(console: Console, job: LeakageJob, report: ReportOptions, compute: ComputeOptions) -> tuple[dict, dict]:
    """Gates: balanced_accuracy[ATTRIBUTE,PROBE] of classes, r2[ATTRIBUTE,PROBE] of numbers, with PROBE linear,
    quadratic (classes only) or mlp; [ATTRIBUTE,PROBE,STORE] where there are several stores.
    """
    from facedecode.evaluation.leakage.evaluate import evaluate_leakage, leakage_schema

    if report.output is None:  # nobody would see the strips
        job = replace(job, decoder="none")
    metrics, outputs = run(
        console,
        report,
        lambda: leakage_schema(job),
        lambda stage: evaluate_leakage(job, start_torch(compute.device), stage),
    )
    return metrics, outputs | ({"directions": str(job.directions)} if job.directions else {})


app = command("evaluate leakage", leakage, summary("leakage"))
