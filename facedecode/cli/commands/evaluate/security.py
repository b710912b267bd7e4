"""`facedecode evaluate security`."""

from __future__ import annotations

import dataclasses

from facedecode.cli.app import command, start_torch
from facedecode.cli.commands.evaluate import summary
from facedecode.cli.commands.evaluate.common import ReportOptions, run
from facedecode.cli.console import Console
from facedecode.evaluation.jobs import SecurityJob
from facedecode.options import ComputeOptions


def security(console: Console, job: SecurityJob, report: ReportOptions, compute: ComputeOptions) -> tuple[dict, dict]:
    """Each decoder belongs to the store of its recognizer, and its pictures are shown to the recognizers of all stores.

    Gates: type1@fmr=R and type2@fmr=R (the highest of all decoders against their own recognizer), type1[D,B]@fmr=R,
    type2[D,B]@fmr=R (decoder D before recognizer B), tar[B]@fmr=R, rank1, rank1[D,B], rank1_same[D,B].
    Of one recognizer also tar@fmr=R. Of tar, @far is another spelling of @fmr.
    """
    from facedecode.evaluation.security.measure import Steps
    from facedecode.evaluation.security.report import evaluate_security, security_schema
    from facedecode.report.gates import rates_of

    job = dataclasses.replace(job, required=rates_of(report.gates(), "fmr", "far"))
    return run(
        console,
        report,
        lambda: security_schema(job),
        lambda stage: evaluate_security(
            job, start_torch(compute.device), Steps(stage("pictures"), stage("portraits"), stage("pairs curve"))
        ),
    )


app = command("evaluate security", security, summary("security"))
