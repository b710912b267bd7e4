"""What `facedecode train --kind recognizer` does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from facedecode.cli.console import Console

if TYPE_CHECKING:  # needs torch
    from facedecode.recognizer_training import RecognizerSettings


def train_recognizer(
    console: Console,
    store: Path,
    output: Path,
    *,
    people: Path | None,
    exclude: tuple[str, ...],
    min_images: int,
    validation: float,
    images: Path | None,
    start: Path | None,
    device: str,
    overwrite: bool,
    settings: RecognizerSettings,
) -> tuple[dict, dict]:
    """Train a recognizer on the images of a store; metrics and outputs as a command returns them."""
    from facedecode.recognizer_fit import RecognizerJob
    from facedecode.recognizer_fit import train_recognizer as train

    job = RecognizerJob(
        store=store,
        output=output,
        people=people,
        exclude=exclude,
        min_images=min_images,
        validation=validation,
        images=images,
        start=start,
        overwrite=overwrite,
        settings=settings,
    )
    with console.progress() as stage:
        made = train(job, device, stage("crops"), stage("train"))
    named, told = made["classification"], made["verification"]
    other = "nobody held out to verify" if told["eer"] is None else f"EER {told['eer']:.1%} on {told['people']} others"
    console.say(
        f"{output}: {settings.head.kind} recognizer of {made['classes']} people, {made['training_images']} images; "
        f"right on {named['accuracy']['value']:.1%} of {named['images']} images held out; {other}"
    )
    metrics = {name: made[name] for name in ("classes", "training_images", "classification", "verification", "steps")}
    return metrics, {"recognizer": str(output)}
