"""What `facedecode train --kind recognizer` does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facedecode.cli.app import Device, DryRun, Images, Overwrite, Precision, Seed, choose_device, choose_precision
from facedecode.cli.commands.train.options import (
    BatchSize,
    Epochs,
    Exclude,
    HeadKind,
    ImageSize,
    Jitter,
    LearningRate,
    MinImages,
    Mirror,
    People,
    Scale,
    Start,
    TrainingSource,
    Validation,
)
from facedecode.cli.console import Console
from facedecode.cli.variants import only_given
from facedecode.errors import UsageError


def train_recognizer(
    console: Console,
    source: TrainingSource,
    output: Path,
    *,
    backbone: Annotated[str, typer.Option("--backbone", help="small (128 numbers), or resnet50 (2048).")] = "small",
    head: HeadKind = "arcface",
    margin: Annotated[
        float | None,
        typer.Option("--margin", help="Of arcface: radians added to the angle to one's own class; 0.5 if absent."),
    ] = None,
    scale: Scale = None,
    people: People = None,
    exclude: Exclude = None,
    min_images: MinImages = 5,
    validation: Validation = 0.1,
    image_size: ImageSize = 64,
    epochs: Epochs = 30.0,
    batch_size: BatchSize = 64,
    learning_rate: LearningRate = 2e-3,
    mirror: Mirror = True,
    jitter: Jitter = None,
    start: Start = None,
    images: Images = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    seed: Seed = 0,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> tuple[dict, dict]:
    """Train a recognizer on the images of a store; metrics and outputs as a command returns them."""
    from facedecode.training.recognizer import train_recognizer as train
    from facedecode.training.recognizer_heads import HeadSettings
    from facedecode.training.recognizer_plan import RecognizerJob, plan_recognizer
    from facedecode.training.recognizer_run import RecognizerSettings

    if head == "softmax":
        for option, value in (("--scale", scale), ("--margin", margin)):
            if value is not None:
                raise UsageError(f"{option} does not go with a softmax head; leave it out")
    settings = RecognizerSettings(
        backbone=backbone,
        image_size=image_size,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        mirror=mirror,
        seed=seed,
        precision=choose_precision(precision),
        head=HeadSettings(head, **only_given(scale=scale, margin=margin)),
        **only_given(jitter=jitter),
    )
    settings.check()
    device = choose_device(device)
    job = RecognizerJob(
        store=source.store(),
        output=output,
        people=people,
        exclude=tuple(exclude or ()),
        min_images=min_images,
        validation=validation,
        images=images,
        start=start,
        overwrite=overwrite,
        settings=settings,
    )
    if dry_run:
        plan = plan_recognizer(job)
        counts = {"classes": len(plan.classes), "images": len(plan.images.rows), "steps": plan.steps}
        console.say(
            f"{backbone} recognizer of {counts['classes']} people, {counts['images']} images with those held out; "
            f"{plan.steps} steps of {batch_size}; would go to {output}"
        )
        return counts, {}
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
