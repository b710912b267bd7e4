"""`facedecode evaluate equivariance`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facedecode.cli.app import Device, Images, Overwrite, Ridge, Seed, Weights, choose_device, command, parse_ridge
from facedecode.cli.commands.evaluate import summary
from facedecode.cli.commands.evaluate.common import (
    FailIf,
    Output,
    Repetitions,
    finish,
    parse_gates,
    refuse_output,
    refuse_unknown,
)
from facedecode.cli.console import Console


def equivariance(
    console: Console,
    store: Annotated[Path, typer.Argument(help="A store of unperturbed faces made by 'extract', with its images.")],
    transform: Annotated[
        list[str] | None,
        typer.Option(
            "--transform",
            help="rotate30, …, or a group: rotations (if absent), shifts, scales, occlusions, all (repeatable).",
        ),
    ] = None,
    people: Annotated[
        Path | None,
        typer.Option("--people", help="Judge on these: a name a line, or LFW's format; all others if absent."),
    ] = None,
    train_people: Annotated[
        Path | None,
        typer.Option("--train-people", help="Fit on these; all others if absent. Without both a tenth is judged."),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", help="Neither fit nor judge on this person (repeatable).")
    ] = None,
    ridge: Ridge = "0",
    work: Annotated[
        Path | None,
        typer.Option("--work", help="Folder that keeps perturbed templates, so that a killed run goes on."),
    ] = None,
    weights: Weights = None,
    images: Images = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=2, help="Only the first so many images of both, to try it out.")
    ] = None,
    device: Device = "auto",
    repetitions: Repetitions = 1000,
    seed: Seed = 0,
    output: Output = None,
    overwrite: Overwrite = False,
    fail_if: FailIf = None,
) -> tuple[dict, dict]:
    """Maps are fitted on some people and judged on others. Gates, for a perturbation T: undone[T] (share of the
    displacement), cosine[T] and score[T] (after the map), round_trip[T] (share lost), composed[A,B] (share undone of A
    then B by their maps), interpolated_linear[T] and interpolated_logarithm[T]; accuracy (of the estimator) and gain
    (in score, by the estimated map). Without [T] where there is one perturbation.
    """
    from facedecode.evaluation.equivariance.measure import EquivarianceJob, evaluate_equivariance
    from facedecode.evaluation.equivariance.report import GATE_WORDS, equivariance_report, gate_names
    from facedecode.pictures.perturb import expand_group

    gates = parse_gates(fail_if, GATE_WORDS)
    refuse_output(output, overwrite)
    transforms = {t.name: t for name in transform or ["rotations"] for t in expand_group(name)}
    refuse_unknown(gates, gate_names(list(transforms.values())))
    job = EquivarianceJob(
        store=store,
        transforms=list(transforms.values()),
        people=people,
        train_people=train_people,
        exclude=tuple(exclude or ()),
        weights=weights,
        images=images,
        limit=limit,
        ridge=parse_ridge(ridge),
        work=work,
        repetitions=repetitions,
        seed=seed,
    )
    with console.progress() as stage:
        figures = evaluate_equivariance(job, choose_device(device), stage)
    return finish(console, equivariance_report(figures, job), output, overwrite, gates)


app = command("evaluate equivariance", equivariance, summary("equivariance"))
