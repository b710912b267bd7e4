"""`facedecode evaluate equivariance`."""

from __future__ import annotations

from facedecode.cli.app import command, start_torch
from facedecode.cli.commands.evaluate import summary
from facedecode.cli.commands.evaluate.common import ReportOptions, run
from facedecode.cli.console import Console
from facedecode.evaluation.jobs import EquivarianceJob
from facedecode.options import ComputeOptions


def equivariance(
    console: Console, job: EquivarianceJob, report: ReportOptions, compute: ComputeOptions
) -> tuple[dict, dict]:
    """Maps are fitted on some people and judged on others.

    Gates, for a perturbation T: undone[T] (explained displacement), cosine[T] and score[T] (after the map),
    round_trip[T] (share lost), composed[A,B] (explained displacement of A then B by their maps), interpolated_linear[T]
    and interpolated_logarithm[T]; accuracy (of the estimator) and gain (in score, by the estimated map). Without [T]
    where there is one perturbation.
    """
    from facedecode.evaluation.equivariance.evaluate import equivariance_schema, evaluate_equivariance

    return run(
        console,
        report,
        lambda: equivariance_schema(job),
        lambda stage: evaluate_equivariance(job, start_torch(compute.device), stage),
    )


app = command("evaluate equivariance", equivariance, summary("equivariance"))
