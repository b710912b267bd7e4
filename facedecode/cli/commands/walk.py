"""`facedecode walk`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facedecode.cli.app import (
    BareModel,
    Decoder,
    Device,
    Images,
    Originals,
    Overwrite,
    Spec,
    Weights,
    command,
    start_torch,
)
from facedecode.cli.checks import Input
from facedecode.cli.commands import summary
from facedecode.cli.console import Console
from facedecode.errors import OutputError, UsageError

_MOST_PICTURES = 1024


def walk(
    console: Console,
    templates: Annotated[
        Path, typer.Argument(help="A store, one of its shards, or a bare .npy file."), Input("templates")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="A .png: a strip of pictures for each --from.")],
    start: Annotated[
        list[str], typer.Option("--from", help="Where to begin: an image of the store, or a row's number (repeatable).")
    ],
    end: Annotated[
        list[str] | None, typer.Option("--to", help="Where to go: one for all, or one for each --from.")
    ] = None,
    along: Annotated[
        Path | None,
        typer.Option("--along", help="Or a direction to go along, made by 'evaluate leakage'."),
        Input("direction"),
    ] = None,
    without: Annotated[
        list[Path] | None,
        typer.Option("--without", help="First take this direction's attribute out of the templates (repeatable)."),
        Input("direction"),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=2, help="Pictures in a strip.")] = 7,
    reach: Annotated[
        float,
        typer.Option("--reach", help="How far along, both ways; 1 is from one class's mean to the other's."),
    ] = 1.0,
    save: Annotated[
        Path | None, typer.Option("--save-templates", help="Write the strips' templates to this .npy file, too.")
    ] = None,
    originals: Originals = False,
    decoder: Decoder = None,
    model: BareModel = None,
    weights: Weights = None,
    spec: Spec = None,
    images: Images = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> tuple[dict, dict]:
    """Under each picture: how far it is on the way, and the recognizer's score of the picture with the first template
    (and with the last, where there is one).
    """
    from facedecode.attributes.direction import load_direction
    from facedecode.inversion.inputs import load_networks, read_inputs
    from facedecode.inversion.walk import draw_walks, find_rows, plan_walks, write_strips, write_templates
    from facedecode.store.processing import refuse_done

    if bool(end) == (along is not None):
        raise UsageError("give one of --to (another template) and --along (a direction)")
    if end and len(end) not in (1, len(start)):
        raise UsageError(f"{len(end)} --to for {len(start)} --from: give one for all, or one for each")
    if not 0 < reach < float("inf"):
        raise UsageError(f"--reach {reach}: give a number above 0")
    if len(start) * steps > _MOST_PICTURES:
        raise UsageError(f"{len(start)} strips of {steps} are too many for one picture; give fewer --from or --steps")
    for path, suffix in ((output, ".png"), (save, ".npy")):
        if path is not None and path.suffix.lower() != suffix:
            raise UsageError(f"{path}: give a name that ends in {suffix}")
        if path is not None and path.exists() and not (overwrite and path.is_file()):
            raise OutputError(f"{path}: is there already; use --overwrite or another name")
    device = start_torch(device)
    given = read_inputs(templates, model, weights, spec, images, device, need_images=originals)
    if given.note:
        console.say(given.note)
    networks = load_networks(given, decoder, device)
    if networks.note:
        console.say(networks.note)
    recognizer = networks.decoder.recognizer
    directions = [load_direction(path) for path in (*(without or ()), *([along] if along else ()))]
    for direction in directions:
        direction.require_recognizer(given.recognizer if given.recognizer.weights_sha256 else recognizer)
    if directions and given.manifest:
        refuse_done(given.manifest, templates, ("cluster", "aggregate"), "directions are of plain ones")
    starts, ends = find_rows(given, start, "--from"), find_rows(given, end or [], "--to")
    walks = plan_walks(
        given.templates[starts],
        given.templates[ends] if end else directions.pop(),
        without=directions,
        steps=steps,
        reach=reach,
        score=recognizer.score,
    )
    with console.progress() as stage:
        strips = draw_walks(walks, networks.decoder, networks.recognizer, stage("draw"))
    if save:
        write_templates(save, walks)
    write_strips(output, given, walks, strips, (starts, ends) if originals else None)
    metrics = {"amounts": walks.amounts}
    if strips.to_start is not None:
        metrics["scores_with_start"] = strips.to_start.tolist()
    if strips.to_end is not None:
        metrics["scores_with_end"] = strips.to_end.tolist()
    console.say(f"{output}: {len(starts)} strip{'s' if len(starts) > 1 else ''} of {steps} pictures")
    return metrics, {"output": str(output), **({"templates": str(save)} if save else {})}


app = command("walk", walk, summary("walk"))
