"""What `facedecode train --kind classifier` does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facedecode.cli.app import Overwrite
from facedecode.cli.commands.train.options import Exclude, HeadKind, MinImages, People, Scale, TrainingSource
from facedecode.cli.console import Console
from facedecode.errors import UsageError


def train_classifier(
    console: Console,
    source: TrainingSource,
    output: Path,
    *,
    people: People = None,
    exclude: Exclude = None,
    min_images: MinImages = 10,
    head: HeadKind = "linear",
    l2: Annotated[
        float | None, typer.Option("--l2", help="Penalty on a linear head's weights; 0.001 if absent.")
    ] = None,
    scale: Scale = None,
    overwrite: Overwrite = False,
) -> tuple[dict, dict]:
    """Fit a classifier to the people of a store; metrics and outputs as a command returns them."""
    from facedecode.classifiers.fit import fit_store_classifier
    from facedecode.classifiers.softmax import Head
    from facedecode.store import Store

    wanted = Head(head, l2, scale)
    with console.progress() as stage:
        classifier = fit_store_classifier(
            Store.open(source.store()),
            output,
            people=people,
            exclude=tuple(exclude or ()),
            min_images=min_images,
            head=wanted,
            overwrite=overwrite,
            progress=stage("fit"),
        )
    report = classifier.report
    console.say(
        f"{output}: {classifier.head} classifier of {report['classes']} people, trained on "
        f"{report['training_images']} images; right on {_percent(report['accuracy'])} of {report['held_out_images']} "
        f"held out (chance {report['chance']:.1%}, always {report['largest_class']['name']} "
        f"{report['largest_class']['share']:.1%})"
    )
    return _metrics(report), {"classifier": str(output)}


def import_classifier(
    console: Console,
    source: TrainingSource,
    output: Path,
    *,
    from_head: Annotated[
        Path | None,
        typer.Option(
            "--from-head", help="Take this softmax layer for a classifier: safetensors with weight (and bias)."
        ),
    ] = None,
    names: Annotated[
        Path | None, typer.Option("--names", help="The classes of --from-head, one a line, in the order of its rows.")
    ] = None,
    head: HeadKind = "linear",
    scale: Scale = None,
    overwrite: Overwrite = False,
) -> tuple[dict, dict]:
    """Take over a softmax layer that was trained elsewhere; metrics and outputs as a command returns them."""
    from facedecode.classifiers.given import import_store_classifier
    from facedecode.classifiers.softmax import Head
    from facedecode.store import Store

    if names is None:
        raise UsageError("--from-head needs --names, a text file with a class on each line, in the order of its rows")
    wanted = Head(head, None, scale)
    classifier = import_store_classifier(
        Store.open(source.store()), from_head, names, output, scale=wanted.scale, overwrite=overwrite
    )
    report = classifier.report
    judged = (
        f"right on {_percent(report['accuracy'])} of the store's {report['images']} images of its classes"
        if report["images"]
        else "the store has no image of its classes to judge it on"
    )
    console.say(f"{output}: {classifier.head} classifier of {report['classes']} classes; {judged}")
    return _metrics(report), {"classifier": str(output)}


def _metrics(report: dict) -> dict:
    """The report without the lists of images, which are in the file."""
    lists = ("training_images", "held_out_images")
    return report | {"provenance": {k: v for k, v in report["provenance"].items() if k not in lists}}


def _percent(estimate: dict) -> str:
    if estimate["low"] is None:
        return f"{estimate['value']:.1%}"
    return f"{estimate['value']:.1%} ({estimate['low']:.1%} to {estimate['high']:.1%})"
