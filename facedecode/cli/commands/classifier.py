"""What `facedecode train --kind classifier` does."""

from __future__ import annotations

from pathlib import Path

from facedecode.cli.console import Console
from facedecode.errors import UsageError


def train_classifier(
    console: Console,
    store: Path,
    output: Path,
    *,
    people: Path | None,
    exclude: tuple[str, ...],
    min_images: int,
    head: str,
    l2: float | None,
    scale: float | None,
    overwrite: bool,
) -> tuple[dict, dict]:
    """Fit a classifier to the people of a store; metrics and outputs as a command returns them."""
    from facedecode.classifier_fit import fit_store_classifier
    from facedecode.softmax_fit import Head
    from facedecode.store import Store

    wanted = Head(head, l2, scale)
    with console.progress() as stage:
        classifier = fit_store_classifier(
            Store.open(store),
            output,
            people=people,
            exclude=exclude,
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
    store: Path,
    output: Path,
    *,
    weights: Path,
    names: Path | None,
    head: str,
    scale: float | None,
    overwrite: bool,
) -> tuple[dict, dict]:
    """Take over a softmax layer that was trained elsewhere; metrics and outputs as a command returns them."""
    from facedecode.classifier_import import import_store_classifier
    from facedecode.softmax_fit import Head
    from facedecode.store import Store

    if names is None:
        raise UsageError("--from-head needs --names, a text file with a class on each line, in the order of its rows")
    wanted = Head(head, None, scale)
    classifier = import_store_classifier(
        Store.open(store), weights, names, output, scale=wanted.scale, overwrite=overwrite
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
