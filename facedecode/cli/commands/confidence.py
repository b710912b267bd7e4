"""`facedecode fit-confidence`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facedecode.cli.app import Device, Images, Overwrite, command, start_torch
from facedecode.cli.checks import Input
from facedecode.cli.commands import summary
from facedecode.cli.console import Console


def fit_confidence(
    console: Console,
    store: Annotated[
        Path, typer.Argument(help="A store made by 'extract'; its images are found through it."), Input("store")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The map's file, NAME.safetensors.")],
    decoder: Annotated[
        str | None,
        typer.Option("--decoder", help="A decoder's folder; else the shipped one for the recognizer."),
        Input("decoder"),
    ] = None,
    people: Annotated[
        Path | None,
        typer.Option("--people", help="Fit on these people only: a name a line, or LFW's format."),
        Input("file"),
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option("--exclude", help="Leave out a person (repeatable).")] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Fit on the first so many images only, by path.")
    ] = None,
    images: Images = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> tuple[dict, dict]:
    """Draws the store's templates, and fits, for each cell of a grid, the expected error of a picture given its
    template. People whom the decoder was trained on are left out: its errors on them are too small.
    """
    from facedecode.decoders import load_decoder_for
    from facedecode.inversion.confidence_fit import fit_store_confidence
    from facedecode.store import Store

    opened = Store.open(store)
    drawer = load_decoder_for(opened.recognizer, decoder, start_torch(device))
    with console.progress() as stage:
        fitted = fit_store_confidence(
            opened,
            drawer,
            output,
            people=people,
            exclude=tuple(exclude or ()),
            images=images,
            limit=limit,
            overwrite=overwrite,
            stage=stage,
        )
    report = fitted.report
    if drawer.provenance.training.get("start") and "held_out" not in drawer.provenance.training:
        console.say(
            f"decoder {drawer.folder.name} went on from another, which is taken to have held out the same people"
        )
    explained = report["explained"]
    console.say(
        f"{output}: {report['images']} images of {len(fitted.people)} people whom the decoder has not seen; explains "
        f"{explained['center']:.1%} of the central region's variance, {explained['all']:.1%} of the whole portrait's"
    )
    return report | {"people": len(fitted.people)}, {"output": str(output)}


app = command("fit-confidence", fit_confidence, summary("fit-confidence"))
