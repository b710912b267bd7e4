"""`facedecode extract`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from facedecode.cli.app import (
    Device,
    Identities,
    Model,
    Overwrite,
    Precision,
    Renamed,
    Spec,
    Weights,
    choose_precision,
    command,
    start_torch,
)
from facedecode.cli.checks import Input
from facedecode.cli.commands import summary
from facedecode.cli.console import Console
from facedecode.errors import FailedItems, UsageError


def extract(
    console: Console,
    images: Annotated[
        list[Path],
        typer.Argument(help="Images, or folders of them (a subfolder is an identity); - reads a list from stdin."),
        Input("images"),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The store's folder.")],
    model: Model = "dlib-resnet",
    weights: Weights = None,
    spec: Spec = None,
    identities: Identities = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels", help="File with labels by image, CelebA's or CSV; they go to labels.csv in the store."
        ),
        Input("file"),
    ] = None,
    renamed: Renamed = None,
    transform: Annotated[
        str | None,
        typer.Option("--transform", help="Perturb each face first: rotate30, shift-left+scale0.5, …."),
        Input("transform"),
    ] = None,
    preview: Annotated[
        Path | None, typer.Option("--preview", help="First draw up to 8 of the faces, as a PNG, to look at.")
    ] = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images that go through together.")] = 32,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 5 if an image gave no template.")] = False,
    overwrite: Overwrite = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count the images, and draw the preview.")] = False,
) -> tuple[dict, dict]:
    """Detects the face that each image is of, aligns it, and embeds it. A run that was interrupted is resumed by the
    same command. Images without a usable face are listed in the store's failures.jsonl. Under torchrun, several
    processes share the images and make the same store.
    """
    from facedecode.annotations.labels import DataSet
    from facedecode.extraction.preview import write_preview
    from facedecode.extraction.run import StoreOptions
    from facedecode.extraction.run import extract as run
    from facedecode.pictures.faces import FaceDetector
    from facedecode.pictures.images import find_images
    from facedecode.pictures.perturb import parse_transform
    from facedecode.recognizers import load_recognizer
    from facedecode.store.layout import LABELS

    images = listed(images)
    if renamed and not (identities or labels):
        raise UsageError("--renamed says how --identities and --labels name the images; give one of these")
    data_set = DataSet(identities, labels, renamed)
    if dry_run:
        root, found = find_images(images)
        for note in data_set.with_identities(found)[1] + data_set.label_table(found)[1]:
            console.say(note)
        console.say(f"{len(found)} images below {root} would go to {output}")
        if not preview:
            return {"count": len(found)}, {}
    precision = choose_precision(precision)
    perturbation = parse_transform(transform) if transform else None
    device = start_torch(device, console.ranks)
    recognizer, detector = load_recognizer(model, weights, device, precision, spec), FaceDetector(device)
    outputs: dict = {"preview": str(preview)} if preview else {}
    if preview and console.ranks.first:
        faces = write_preview(preview, images, recognizer, detector, perturbation, overwrite=overwrite)
        console.say(f"{preview}: {faces} of the faces")
    if dry_run:
        return {"count": len(found)}, outputs
    with console.progress() as stage:
        result = run(
            images,
            output,
            recognizer,
            detector,
            transform=perturbation,
            data_set=data_set,
            options=StoreOptions(batch_size=batch_size, overwrite=overwrite),
            progress=stage("extract"),
            ranks=console.ranks,
        )
    if result is None:
        return {}, {}
    for note in result.notes:
        console.say(note)
    if labels:
        outputs["labels"] = str(output / LABELS)
    failed = len(result.failures)
    before = f", {result.resumed} inputs were done before" if result.resumed else ""
    console.say(f"{output}: {result.count} templates of {recognizer.name}, {failed} failed{before}")
    if strict and failed:
        first = result.failures[0]
        raise FailedItems(
            f"{failed} images gave no template (the first: {first['path']}: {first['reason']}); all are listed in "
            f"{output / 'failures.jsonl'}"
        )
    return {"count": result.count, "failed": failed}, {"store": str(output), **outputs}


def listed(images: list[Path]) -> list[Path]:
    """The inputs, with `-` replaced by the lines of stdin."""
    if Path("-") not in images:
        return images
    lines = [Path(line) for line in sys.stdin.read().splitlines() if line.strip()]
    return [path for given in images for path in (lines if given == Path("-") else [given])]


app = command("extract", extract, summary("extract"), several=True)
