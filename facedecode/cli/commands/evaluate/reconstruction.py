"""`facedecode evaluate reconstruction`."""

from __future__ import annotations

from facedecode.cli.app import command, start_torch
from facedecode.cli.commands.evaluate import summary
from facedecode.cli.commands.evaluate.common import ReportOptions, run
from facedecode.cli.console import Console
from facedecode.evaluation.jobs import ReconstructionJob
from facedecode.options import ComputeOptions


def reconstruction(
    console: Console, job: ReconstructionJob, report: ReportOptions, compute: ComputeOptions
) -> tuple[dict, dict]:
    """Every decoder is judged on the same images, of people whom it was not trained on. Intervals are 95 %.

    Gates, for a decoder D and a recognizer R: psnr[D], ssim[D], lpips[D], sharpness[D] (gradient energy, as a share of
    the originals'), score[D,R], phi[D,NETWORK]; without [D] where there is one decoder, and score[D], phi[D] where
    there is one recognizer, one network.
    """
    from facedecode.evaluation.reconstruction import evaluate_reconstruction, reconstruction_schema

    return run(
        console,
        report,
        lambda: reconstruction_schema(job),
        lambda stage: evaluate_reconstruction(job, start_torch(compute.device), stage("reconstruction")),
    )


app = command("evaluate reconstruction", reconstruction, summary("reconstruction"))
