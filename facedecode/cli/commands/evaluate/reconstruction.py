"""`facedecode evaluate reconstruction`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facedecode.cli.app import Device, Images, Overwrite, Seed, choose_device, command
from facedecode.cli.commands.evaluate import summary
from facedecode.cli.commands.evaluate.common import (
    Against,
    Decoders,
    FailIf,
    JudgeWeights,
    Output,
    People,
    Repetitions,
    finish,
    named,
    named_networks,
    parse_gates,
    refuse_output,
    refuse_unknown,
)
from facedecode.cli.console import Console
from facedecode.errors import UsageError

if TYPE_CHECKING:
    from facedecode.evaluation.reconstruction.measure import ReconstructionJob
    from facedecode.report.gates import Gate

_WORDS = ("psnr", "ssim", "sharpness", "score", "lpips", "phi")


def reconstruction(
    console: Console,
    store: Annotated[Path, typer.Argument(help="A store made by 'extract', with its images.")],
    decoder: Decoders,
    against: Against = None,
    weights: JudgeWeights = None,
    people: People = None,
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", help="The decoder that others are compared with; the first ridge if absent."),
    ] = None,
    lpips_trunk: Annotated[
        Path | None, typer.Option("--lpips-trunk", help="torchvision's own file of the net: measures LPIPS too.")
    ] = None,
    lpips_net: Annotated[
        str | None, typer.Option("--lpips-net", help="Net of LPIPS: alex (if absent), squeeze or vgg.")
    ] = None,
    phi: Annotated[
        list[str] | None,
        typer.Option(
            "--phi",
            help="Measures a distance by this network's maps: squeezenet=FILE, a recognizer, NAME or NAME=FILE, or "
            "torch:FILE (repeatable).",
        ),
    ] = None,
    images: Images = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=2, help="Only the first so many images, to try it out.")
    ] = None,
    columns: Annotated[
        int, typer.Option("--columns", min=1, max=100, help="People in the figure of all decoders.")
    ] = 12,
    device: Device = "auto",
    repetitions: Repetitions = 1000,
    seed: Seed = 0,
    output: Output = None,
    overwrite: Overwrite = False,
    fail_if: FailIf = None,
) -> tuple[dict, dict]:
    """Every decoder is judged on the same images, of people whom it was not trained on. Gates, for a decoder D and a
    recognizer R: psnr[D], ssim[D], lpips[D], sharpness[D] (gradient energy, as a share of the originals'),
    score[D,R], phi[D,NETWORK]; without [D] where there is one decoder, and score[D], phi[D] where there is one
    recognizer, one network.
    """
    if lpips_net and not lpips_trunk:
        raise UsageError("--lpips-net: give its trunk too, with --lpips-trunk FILE")
    given = {"lpips": lpips_trunk, "phi": phi}
    gates = parse_gates(fail_if, [word for word in _WORDS if given.get(word, True)])
    refuse_output(output, overwrite)
    from facedecode.evaluation.reconstruction.measure import ReconstructionJob, evaluate_reconstruction
    from facedecode.evaluation.reconstruction.report import reconstruction_report

    job = ReconstructionJob(
        store=store,
        decoders=named(decoder, "--decoder"),
        against=against or (),
        weights={name: Path(file) for name, file in named(weights or [], "--weights").items()},
        people=people,
        baseline=baseline,
        lpips_trunk=lpips_trunk,
        lpips_net=lpips_net or "alex",
        phi={name: Path(file) if file != name else None for name, file in named_networks(phi or [], "--phi").items()},
        images=images,
        limit=limit,
        columns=columns,
        repetitions=repetitions,
        seed=seed,
    )
    _refuse_unknown(gates, job)
    with console.progress() as stage:
        figures = evaluate_reconstruction(job, choose_device(device), stage("reconstruction"))
    return finish(console, reconstruction_report(figures, job), output, overwrite, gates)


def _refuse_unknown(gates: Sequence[Gate], job: ReconstructionJob) -> None:
    """Say before the work that a gate names a decoder or a recognizer that is not there."""
    from facedecode.evaluation.cohort import open_stores
    from facedecode.evaluation.reconstruction.report import gate_keys

    if gates:
        recognizers = list(open_stores([job.store, *job.against]))
        refuse_unknown(gates, gate_keys(list(job.decoders), recognizers, bool(job.lpips_trunk), list(job.phi)))


app = command("evaluate reconstruction", reconstruction, summary("reconstruction"))
