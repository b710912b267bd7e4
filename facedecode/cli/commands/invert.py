"""`facedecode invert`."""

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
    Seed,
    Spec,
    Weights,
    command,
    start_torch,
)
from facedecode.cli.checks import Input
from facedecode.cli.commands import summary
from facedecode.cli.console import Console
from facedecode.errors import OutputError, UsageError

MOST_IN_A_GRID = 1024


def invert(
    console: Console,
    templates: Annotated[
        Path, typer.Argument(help="A store, one of its shards, or a bare .npy file."), Input("templates")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A .png (a picture, or a grid), or a folder for one PNG each.")
    ],
    decoder: Decoder = None,
    mapping: Annotated[
        Path | None,
        typer.Option("--mapping", help="A map made by 'fit-mapping', applied to the templates first."),
        Input("mapping"),
    ] = None,
    refine: Annotated[
        int | None,
        typer.Option("--refine", min=1, help="Improve each picture in so many steps by the recognizer's gradients."),
    ] = None,
    confidence: Annotated[
        Path | None,
        typer.Option("--confidence", help="A map made by 'fit-confidence': show what is pinned down."),
        Input("confidence map"),
    ] = None,
    originals: Originals = False,
    model: BareModel = None,
    weights: Weights = None,
    spec: Spec = None,
    images: Images = None,
    device: Device = "auto",
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> tuple[dict, dict]:
    """The score is the recognizer's own, between the picture's template and the one it was drawn from. A score near
    a mated pair's says that the picture carries the identity; it does not say that the picture is true.
    """
    to_folder = _is_folder(output, overwrite)
    from facedecode.inversion.confidence import load_confidence
    from facedecode.inversion.inputs import load_networks, read_inputs
    from facedecode.inversion.invert import invert as run
    from facedecode.inversion.invert import write_folder, write_grid
    from facedecode.inversion.refinement import require_refinable
    from facedecode.mapping.maps import load_mapping
    from facedecode.provenance import describe_decoder
    from facedecode.store import Processing

    device = start_torch(device)
    given = read_inputs(templates, model, weights, spec, images, device, need_images=originals)
    if given.note:
        console.say(given.note)
    if not to_folder and len(given.templates) > MOST_IN_A_GRID:
        raise UsageError(f"{len(given.templates)} templates are too many for one grid; give a folder: -o out/")
    networks = load_networks(given, decoder, device, need_recognizer=bool(refine))
    drawer, recognizer = networks.decoder, networks.recognizer
    if networks.note:
        console.say(networks.note)
    if refine:
        require_refinable(drawer, recognizer)
    moved = load_mapping(mapping) if mapping else None
    if moved:
        made_by = given.manifest.recognizer if given.manifest else drawer.recognizer
        moved.require_templates(made_by, given.manifest or Processing(), templates)
        if given.manifest:
            moved.warn_of_other_faces(given.manifest, templates)
    maps = load_confidence(confidence) if confidence else None
    if maps:
        maps.require_decoder(describe_decoder(drawer), drawer.recognizer)
    with console.progress() as stage:
        said = stage("refine, steps" if refine else "invert")
        result = run(
            given.templates,
            drawer,
            recognizer,
            moved,
            progress=said,
            refine=refine or 0,
            seed=seed,
            confidence=maps,
        )
    if to_folder:
        write_folder(output, given, result)
    else:
        write_grid(output, given, result, originals)
    return _report(console, output, result)


def _is_folder(output: Path, overwrite: bool) -> bool:
    """Whether the pictures go to a folder rather than one PNG; refuses what cannot be written before the work."""
    from facedecode.pictures.images import EXTENSIONS

    to_folder = output.suffix.lower() != ".png"
    if to_folder and output.suffix.lower() in EXTENSIONS:
        raise UsageError(f"-o {output}: pictures are written as PNG; give a name that ends in .png, or a folder")
    if not output.exists():
        return to_folder
    if to_folder != output.is_dir() or not (to_folder or output.is_file()):
        raise OutputError(f"{output}: is there and is no {'folder' if to_folder else 'regular file'}; name another")
    if not overwrite and (not to_folder or any(output.iterdir())):
        raise OutputError(f"{output}: is there already; use --overwrite or another name")
    return to_folder


def _report(console: Console, output: Path, result) -> tuple[dict, dict]:
    count = len(result.pictures)
    metrics: dict = {"count": count}
    line = f"{output}: {count} face{'s' if count != 1 else ''}"
    if result.scores is not None:
        metrics["score"] = float(result.scores.mean())
        metrics["scores"] = [float(s) for s in result.scores]
        low, high = float(result.scores.min()), float(result.scores.max())
        span = "" if count == 1 else f" (from {low:.3f} to {high:.3f})"
        reached = f"{metrics['score']:.3f}"
        if result.before is not None:
            metrics["score_before"] = float(result.before.mean())
            metrics["scores_before"] = [float(s) for s in result.before]
            reached = f"{metrics['score_before']:.3f} → {reached}"
        line += f", score against the template {reached}{span}"
    if result.explained is not None:
        from facedecode.inversion.invert import central_confidence

        metrics["confidences"] = [float(c) for c in central_confidence(result)]
        metrics["confidence"] = sum(metrics["confidences"]) / count
        line += f", {metrics['confidence']:.1%} of the central region's variance explained"
    console.say(line)
    return metrics, {"output": str(output)}


app = command("invert", invert, summary("invert"))
