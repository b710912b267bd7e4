"""`facedecode evaluate leakage`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facedecode.cli.app import Device, Images, Overwrite, Seed, Weights, choose_device, command
from facedecode.cli.commands.evaluate import summary
from facedecode.cli.commands.evaluate.common import (
    FailIf,
    Output,
    Repetitions,
    finish,
    parse_gates,
    refuse_output,
)
from facedecode.cli.console import Console
from facedecode.cli.load import optional_decoder
from facedecode.errors import BadInput, MissingWeights
from facedecode.options import named


def leakage(
    console: Console,
    stores: Annotated[
        list[str], typer.Argument(help="Stores of the same images, or NAME=STORE; the first is compared with.")
    ],
    labels: Annotated[
        Path | None, typer.Option("--labels", help="CSV file with a column 'path' and columns of labels.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option("--label", help="A column of it to read (repeatable).")] = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option("--attribute", help="A computed attribute (repeatable): yaw, turn, brightness …; all if absent."),
    ] = None,
    people: Annotated[Path | None, typer.Option("--people", help="Only these: a name a line, or LFW's format.")] = None,
    exclude: Annotated[list[str] | None, typer.Option("--exclude", help="Leave out a person (repeatable).")] = None,
    directions: Annotated[
        Path | None, typer.Option("--directions", help="Write each attribute's direction to this folder, for 'walk'.")
    ] = None,
    decoder: Annotated[
        str | None, typer.Option("--decoder", help="Draws strips; else the recognizer's shipped one. none: no strips.")
    ] = None,
    weights: Weights = None,
    images: Images = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=2, help="Only the first so many images, to try it out.")
    ] = None,
    folds: Annotated[int, typer.Option("--folds", min=2, help="Of people.")] = 5,
    device: Device = "auto",
    repetitions: Repetitions = 1000,
    seed: Seed = 0,
    output: Output = None,
    overwrite: Overwrite = False,
    fail_if: FailIf = None,
) -> tuple[dict, dict]:
    """Gates: balanced_accuracy[ATTRIBUTE,PROBE] of classes, r2[ATTRIBUTE,PROBE] of numbers, PROBE being linear,
    quadratic (classes only) or mlp;
    [ATTRIBUTE,PROBE,STORE] where there are several stores.
    """
    from facedecode.evaluation.leakage.measure import LeakageJob, evaluate_leakage
    from facedecode.evaluation.leakage.report import GATE_WORDS, leakage_report
    from facedecode.files import make_folder

    gates = parse_gates(fail_if, GATE_WORDS)
    refuse_output(output, overwrite)
    job = LeakageJob(
        stores={name: Path(folder) for name, folder in named(stores, "STORES").items()},
        people=people,
        exclude=tuple(exclude or ()),
        labels=labels,
        columns=tuple(label or ()),
        attributes=attribute,
        images=images,
        limit=limit,
        folds=folds,
        repetitions=repetitions,
        seed=seed,
    )
    with console.progress() as stage:
        figures = evaluate_leakage(job, stage)
        strips, drawer = None, None
        if decoder != "none" and output is not None:
            strips, drawer = _draw(console, figures, job, decoder, weights, choose_device(device), stage)
    outputs = {}
    if directions is not None:
        make_folder(directions)
        for name, direction in figures.directions.items():
            direction.save(directions / f"{name}.safetensors")
        outputs["directions"] = str(directions)
    metrics, written = finish(console, leakage_report(figures, job, strips, drawer), output, overwrite, gates)
    return metrics, written | outputs


def _draw(console: Console, figures, job, decoder: str | None, weights: Path | None, device: str, stage):
    """Strips of the first store's attributes, and by which decoder; None where they cannot be drawn, unasked."""
    from facedecode.evaluation.leakage.strips import draw_strips
    from facedecode.provenance import describe_decoder
    from facedecode.recognizers import load_described

    first = next(iter(figures.stores.values()))
    drawer, folder = optional_decoder(console, decoder, first.recognizer, device, "no strips")
    if drawer is None:
        return None, None
    try:
        recognizer = load_described(first.recognizer, weights, device)
    except MissingWeights as error:
        if weights is not None:
            raise
        console.say(f"classes are not measured on what is drawn: {error}")
        recognizer = None
    try:
        strips = draw_strips(
            figures,
            drawer,
            job.images or first.root,
            recognizer=recognizer,
            repetitions=job.repetitions,
            seed=job.seed,
            progress=stage("strips"),
            say=console.say,
        )
    except BadInput as error:
        if decoder is not None:
            raise
        console.say(f"no strips: {error}")
        return None, None
    return strips, describe_decoder(drawer, folder)


app = command("evaluate leakage", leakage, summary("leakage"))
