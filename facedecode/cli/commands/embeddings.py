"""`facedecode import`, and what `train` does with a bare `.npy`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from facedecode.cli.app import (
    Device,
    Identities,
    Overwrite,
    Renamed,
    Spec,
    Weights,
    command,
    start_torch,
)
from facedecode.cli.checks import Input
from facedecode.cli.commands import summary
from facedecode.cli.console import Console
from facedecode.errors import FailedItems, UsageError
from facedecode.identity import RecognizerId


def import_(
    console: Console,
    embeddings: Annotated[Path, typer.Argument(help="A .npy file: a template a row."), Input("array")],
    images: Annotated[
        Path,
        typer.Option("--images", help="Text file with the path of each row's image, one a line, in their order."),
        Input("file"),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The store's folder.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Recognizer that made them (else dlib-resnet); torch:FILE, onnx:FILE; given:NAME: one not at hand.",
        ),
        Input("model"),
    ] = None,
    weights: Weights = None,
    spec: Spec = None,
    score: Annotated[
        Literal["cosine", "negative-euclidean"] | None,
        typer.Option("--score", help="Of given:NAME: cosine, which is the default, or negative-euclidean."),
    ] = None,
    identities: Identities = None,
    renamed: Renamed = None,
    device: Device = "auto",
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 5 if an image shows no face.")] = False,
    overwrite: Overwrite = False,
) -> tuple[dict, dict]:
    """Finds the face in each image, which decoders are trained to draw. Images without one are listed in the store's
    failures.jsonl, and their templates left out. Resumes as 'extract' does.
    """
    result = import_store(
        console, embeddings, images, output, model, weights, spec, device, score, identities, renamed, overwrite
    )
    failed = len(result.failures)
    if strict and failed:
        first = result.failures[0]
        raise FailedItems(
            f"{failed} images show no face (the first: {first['path']}: {first['reason']}); all are listed in "
            f"{output / 'failures.jsonl'}"
        )
    return {"count": result.count, "failed": failed}, {"store": str(output)}


def import_store(
    console: Console,
    embeddings: Path,
    images: Path,
    output: Path,
    model: str | None,
    weights: Path | None,
    spec: Path | None,
    device: str,
    score: str | None = None,
    identities: Path | None = None,
    renamed: Path | None = None,
    overwrite: bool = False,
):
    """Make the store, and say what there is to say of it; an `Extracted`."""
    from facedecode.annotations.labels import DataSet
    from facedecode.extraction.embeddings_import import import_embeddings
    from facedecode.extraction.run import StoreOptions
    from facedecode.pictures.faces import FaceDetector
    from facedecode.recognizers import DEFAULT_RECOGNIZER, load_recognizer
    from facedecode.recognizers.contract import TEMPLATES_ONLY

    if model is None:
        console.say(f"{embeddings}: taken as templates of {DEFAULT_RECOGNIZER} (say --model if they are not)")
    name = model or DEFAULT_RECOGNIZER
    given = name.startswith(TEMPLATES_ONLY)
    if score not in (None, "cosine", "negative-euclidean"):
        raise UsageError(f"--score {score}: use cosine or negative-euclidean")
    if given and (weights or spec or name == TEMPLATES_ONLY):
        raise UsageError(
            f"--model {name}: {TEMPLATES_ONLY}NAME is a recognizer not at hand; leave --weights and --spec out"
        )
    if score and not given:
        raise UsageError(f"--score is said of {TEMPLATES_ONLY}NAME; {name} has its own")
    if renamed and not identities:
        raise UsageError("--renamed says how --identities names the images; give both")
    device = start_torch(device)
    recognizer = name if given else load_recognizer(name, weights, device, contract=spec)
    with console.progress() as stage:
        result = import_embeddings(
            embeddings,
            images,
            output,
            recognizer,
            FaceDetector(device),
            score=score or "cosine",
            data_set=DataSet(identities, renamed=renamed),
            options=StoreOptions(overwrite=overwrite),
            progress=stage("import"),
        )
    for note in result.notes:
        console.say(note)
    before = f", {result.resumed} were done before" if result.resumed else ""
    console.say(f"{output}: {result.count} templates with their images, {len(result.failures)} failed{before}")
    return result


def store_of_bare(
    console: Console,
    embeddings: Path,
    images: Path | None,
    output: Path,
    model: str | None,
    weights: Path | None,
    spec: Path | None,
    device: str,
    overwrite: bool,
) -> Path:
    """A bare file and its images as a store beside the output."""
    if images is None:
        raise UsageError(f"{embeddings}: bare templates; name a text file of their images' paths by --images list.txt")
    made = output.with_name(f"{output.name}-emb")
    import_store(console, embeddings, images, made, model, weights, spec, device, overwrite=overwrite)
    return made


def describe_recognizer(model: str | None, weights: Path | None, spec: Path | None, device: str) -> RecognizerId:
    """The recognizer of a bare file's templates, as its store will describe it; of one not at hand, its name alone."""
    from facedecode.recognizers import DEFAULT_RECOGNIZER, load_recognizer
    from facedecode.recognizers.contract import TEMPLATES_ONLY

    name = model or DEFAULT_RECOGNIZER
    if name.startswith(TEMPLATES_ONLY):
        return RecognizerId(name, None)
    return load_recognizer(name, weights, device, contract=spec).describe()


app = command("import", import_, summary("import"))
