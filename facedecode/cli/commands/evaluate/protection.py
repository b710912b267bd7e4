"""`facedecode evaluate protection`."""

from __future__ import annotations

from dataclasses import replace

from facedecode.cli.app import command, start_torch
from facedecode.cli.commands.evaluate import summary
from facedecode.cli.commands.evaluate.common import ReportOptions, run
from facedecode.cli.console import Console
from facedecode.evaluation.jobs import ProtectionJob
from facedecode.options import ComputeOptions


def protection(
    console: Console, job: ProtectionJob, report: ReportOptions, compute: ComputeOptions
) -> tuple[dict, dict]:
    """Gates: linkability and maximal_linkability (the highest of all scores and images), eer and tar@far=R (one key for
    all), type1@fmr=R and type2@fmr=R (the highest, key known or not, before every judge).

    One of them: eer[S] and tar[S]@far=R (S: unprotected, one-key, own-keys), type1[A,J]@fmr=R (attacker A: known,
    unknown, unprotected, mean-face; judge J: recognizer, system, or another's name), linkability[K,I] (score K: own,
    length; I: different-images, same-image).
    """
    from facedecode.evaluation.protection.evaluate import evaluate_protection, protection_schema
    from facedecode.report.gates import rates_of

    job = replace(job, required=rates_of(report.gates(), "far", "fmr"))
    return run(
        console,
        report,
        lambda: protection_schema(job),
        lambda stage: evaluate_protection(job, start_torch(compute.device), stage),
    )


app = command("evaluate protection", protection, summary("protection"))
