"""`facedecode evaluate verification`."""

from __future__ import annotations

import dataclasses

from facedecode.cli.app import command
from facedecode.cli.commands.evaluate import summary
from facedecode.cli.commands.evaluate.common import ReportOptions, run
from facedecode.cli.console import Console
from facedecode.evaluation.jobs import VerificationJob


def verification(console: Console, job: VerificationJob, report: ReportOptions) -> tuple[dict, dict]:
    """With --mapping the templates of a perturbed side are mapped back first, as in Table 2 of the paper.

    Intervals are 95 %, by person bootstrap. Pairs with an image that gave no template count as non-matches unless
    --ignore-failures is given. Gates: accuracy, eer, fta, tar@far=F and fnmr@fmr=F (by person), tar_by_pair@far=F; with
    --threshold fmr and fnmr; with --labels fmr_ratio@fmr=F and fnmr_ratio@fmr=F. Of several recognizers name one, as
    eer[edgeface-xxs].
    """
    from facedecode.evaluation.verification.inputs import verification_inputs
    from facedecode.evaluation.verification.report import evaluate_verification, verification_schema
    from facedecode.report.gates import rates_of

    job = dataclasses.replace(job, more_fmrs=rates_of(report.gates(), "far", "fmr"))
    inputs = verification_inputs(job)
    source, settings = inputs.source, inputs.settings
    return run(
        console,
        report,
        lambda: verification_schema(list(inputs.templates), settings, source.kind, source.folds),
        lambda stage: evaluate_verification(inputs.templates, source, settings, stage("verification")),
    )


app = command("evaluate verification", verification, summary("verification"))
